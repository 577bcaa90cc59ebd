#[cfg(feature = "mtls")]
use std::sync::Arc;
use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method,
    header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE},
};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroize;

use super::{
    answer::{Reading, read},
    form::{Form, Redactor},
    prover::Prover,
    response::Rules,
};
#[cfg(feature = "mtls")]
use crate::http::{Answer, Identity};
use crate::{
    client_auth::{ClientAuth, Credentials},
    error::{Error, ErrorKind},
    http::{Endpoint, Limits, Transport},
    secret::Secret,
    source::FetchContext,
    token::{Scopes, TokenSet},
};

/// A token endpoint, the client that calls it, and what a call may cost.
#[derive(Debug, Clone)]
pub(crate) struct TokenEndpoint {
    pub(crate) url: Endpoint,
    pub(crate) auth: ClientAuth,
    pub(crate) transport: Transport,
    pub(crate) timeout: Duration,
    pub(crate) body_limit: usize,
    pub(crate) rules: Rules,
}

impl TokenEndpoint {
    /// Asks for a token once; twice if the client's secret was replaced in the meantime.
    pub(crate) async fn request(
        &self,
        cx: &FetchContext,
        form: &Form,
        requested: &Scopes,
    ) -> Result<TokenSet, Error> {
        let (mut form, mut requested) = (Cow::Borrowed(form), Cow::Borrowed(requested));
        if !cx.step_up.scopes.is_empty() {
            // The old scopes as well: others may still need them.
            let requested = requested.to_mut();
            requested.extend(&cx.step_up.scopes);
            if let Some(held) = cx.previous.as_ref().and_then(|previous| previous.scopes()) {
                requested.extend(held);
            }
            form.to_mut().set("scope", requested.to_string());
        }
        if let Some(claims) = &cx.step_up.claims {
            form.to_mut().set("claims", &**claims);
        }
        self.authenticated(cx, &form, &requested).await
    }

    async fn authenticated(
        &self,
        cx: &FetchContext,
        form: &Form,
        requested: &Scopes,
    ) -> Result<TokenSet, Error> {
        let credentials = self.credentials(cx).await?;
        let error = match self.attempt(cx, form, requested, &credentials).await {
            Err(error) if error.kind() == ErrorKind::InvalidClient => error,
            outcome => return outcome,
        };
        if !self.auth.can_change() {
            return Err(error);
        }
        // A secret that is rotated may have been read just before. Another one is tried once; if
        // there is none, the server meant it.
        match self.credentials(cx).await {
            Ok(other) if !other.same_secret(&credentials) => {
                self.attempt(cx, form, requested, &other).await
            }
            _ => Err(error),
        }
    }

    /// Sends a request; once more if the server wants another proof of the key.
    async fn attempt(
        &self,
        cx: &FetchContext,
        form: &Form,
        requested: &Scopes,
        credentials: &Credentials,
    ) -> Result<TokenSet, Error> {
        let (outcome, another_proof) = self.exchange(cx, form, requested, credentials).await?;
        if !another_proof {
            return outcome;
        }
        // An assertion is used once, so it is signed anew.
        let credentials = self.credentials(cx).await?;
        self.exchange(cx, form, requested, &credentials).await?.0
    }

    async fn credentials(&self, cx: &FetchContext) -> Result<Credentials, Error> {
        match timeout_at(self.deadline(cx), self.auth.credentials(cx.clock.now().wall)).await {
            Ok(credentials) => credentials,
            Err(_) => {
                Err(Error::new(ErrorKind::Timeout, "the client's secret could not be read in time"))
            }
        }
    }

    /// Sends a request once. Returns also whether another proof of the key may do.
    async fn exchange(
        &self,
        cx: &FetchContext,
        form: &Form,
        requested: &Scopes,
        credentials: &Credentials,
    ) -> Result<(Result<TokenSet, Error>, bool), Error> {
        let prover = Prover::new(&self.rules.accepted, &self.url);
        let proof = prover.as_ref().map(|prover| prover.prove(cx.clock.now().wall)).transpose()?;
        let request = self.prepare(form, credentials, proof.as_ref());
        let limits = Limits { deadline: self.deadline(cx), body: self.body_limit };
        let now = || (Instant::now(), cx.clock.now().wall);
        let sent = now();
        let answer = self.transport.exchange(request, limits).await?;
        let reading = Reading {
            rules: &self.rules,
            requested,
            method: self.auth.method(),
            sent,
            received: now(),
        };
        let outcome = read(&answer, &reading, || redactor(form, credentials, proof.as_ref()));
        let another_proof = prover.is_some_and(|prover| {
            prover.learn(answer.headers(), outcome.as_ref().err(), cx.clock.now().wall)
        });
        #[cfg(feature = "mtls")]
        let outcome = outcome.map(|token| bound(token, &answer));
        wipe(answer.into_body());
        Ok((outcome, another_proof))
    }

    /// RFC 6749 §3.2: "The client MUST use the HTTP "POST" method when making access token
    /// requests."
    fn prepare(
        &self,
        form: &Form,
        credentials: &Credentials,
        proof: Option<&HeaderValue>,
    ) -> http::Request<Bytes> {
        let mut form = form.clone();
        for (name, value) in credentials.parameters() {
            form.set(*name, value.clone());
        }
        let mut request = http::Request::new(form.to_body());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.uri().clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, FORM);
        // GitHub answers with a form unless it is asked for JSON.
        headers.insert(ACCEPT, JSON);
        // A cache in the client, if there is one, must not keep tokens.
        headers.insert(CACHE_CONTROL, NO_STORE);
        if let Some(authorization) = credentials.authorization() {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if let Some(proof) = proof {
            headers.insert(DPOP, proof.clone());
        }
        request
    }

    fn deadline(&self, cx: &FetchContext) -> Instant {
        let own = Instant::now().checked_add(self.timeout);
        own.map_or(cx.deadline, |own| own.min(cx.deadline))
    }
}

/// A token that came over a connection with a certificate may be bound to it. Whether it is, only
/// the server knows for sure, and there is no harm in using every such token as if.
#[cfg(feature = "mtls")]
fn bound(token: TokenSet, answer: &Answer) -> TokenSet {
    match answer.extensions().get::<Arc<Identity>>() {
        Some(certificate) => token.with_certificate(certificate.clone()),
        None => token,
    }
}

/// The answer holds tokens. Its buffer is wiped if nobody else has a part of it; what lies in the
/// HTTP client's own buffers is out of reach.
fn wipe(body: Bytes) {
    if let Ok(mut buffer) = body.try_into_mut() {
        buffer.as_mut().zeroize();
    }
}

/// Finds what was sent in secret: it must not come back in an error.
fn redactor(form: &Form, credentials: &Credentials, proof: Option<&HeaderValue>) -> Redactor {
    let header = credentials.authorization().and_then(|value| value.to_str().ok());
    let blob = header.and_then(|value| value.split_once(' ')).map(|(_, blob)| Secret::from(blob));
    let proof = proof.and_then(|value| value.to_str().ok()).map(Secret::from);
    Redactor::new(form.secrets().chain(credentials.secrets()).chain(&blob).chain(&proof))
}

const DPOP: HeaderName = HeaderName::from_static("dpop");
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
