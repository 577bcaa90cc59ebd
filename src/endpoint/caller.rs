use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE},
};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroize;

use super::{Accepted, codes::ErrorCodes, form::Form, prover::Prover, redactor::Redactor};
use crate::{
    client_auth::{ClientAuth, Credentials, Offer},
    discovery::{Discovery, EndpointKind, Metadata},
    error::{Error, ErrorKind},
    http::{Answer, Endpoint, Limits, Transport, date},
    secret::Secret,
    source::FetchContext,
    time::{ServerClock, instant_in},
};

/// A client at one endpoint of an authorization server: where that is, how the client authenticates
/// there, and what a call may cost.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) location: Location,
    pub(crate) auth: ClientAuth,
    pub(crate) transport: Transport,
    pub(crate) timeout: Duration,
    pub(crate) body_limit: usize,
    /// The key that tokens from here are to be bound to, if they are: a request proves it.
    pub(crate) accepted: Accepted,
    /// The algorithms to which assertions are limited, whatever the server takes.
    pub(crate) algorithms: Option<&'static [&'static str]>,
    /// What the server's error codes mean.
    pub(crate) codes: ErrorCodes,
    /// The server's clock, by which assertions are dated.
    pub(crate) clock: Arc<ServerClock>,
}

/// Where an endpoint is. A URL that is configured wins over one that is discovered.
#[derive(Clone)]
pub(crate) struct Location {
    pub(crate) kind: EndpointKind,
    pub(crate) url: Option<Endpoint>,
    pub(crate) discovery: Option<Discovery>,
}

#[cfg(feature = "store")]
impl Location {
    /// What tells it from others: its URL, or the issuer that says where it is.
    pub(crate) fn name(&self) -> String {
        match (&self.url, &self.discovery) {
            (Some(url), _) => url.uri().to_string(),
            (None, Some(discovery)) => discovery.configured_issuer().to_owned(),
            (None, None) => String::new(),
        }
    }
}

/// An answer and what it takes to read it.
pub(crate) struct Exchanged<'a> {
    pub(crate) answer: &'a Answer,
    /// How the client authenticated.
    pub(crate) method: &'static str,
    /// What error codes mean.
    pub(crate) codes: &'a ErrorCodes,
    /// When the request was sent, and what time it was then.
    pub(crate) sent: (Instant, SystemTime),
    /// When the answer was there, and what time it was then.
    pub(crate) received: (Instant, SystemTime),
    form: &'a Form,
    credentials: &'a Credentials,
    proof: Option<&'a HeaderValue>,
}

/// What is decided before a request: nothing of it is tried.
struct Prepared {
    url: Endpoint,
    /// The URL as the transport sends it: what a proof is for.
    proved: Uri,
    auth: ClientAuth,
}

impl Caller {
    /// The context of a call outside of any fetch. It has time for a second attempt, and for one that
    /// the server asks to wait for.
    pub(crate) fn context(&self) -> FetchContext {
        let time = self.timeout.saturating_mul(2).saturating_add(LONGEST_WAIT);
        FetchContext { deadline: instant_in(time), ..FetchContext::first() }
    }

    /// Sends a form once; twice if the client's secret was replaced in the meantime.
    pub(crate) async fn post<T>(
        &self,
        cx: &FetchContext,
        form: &Form,
        read: impl Fn(&Exchanged<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let prepared = self.prepare(cx).await?;
        let credentials = self.credentials(&prepared.auth, cx).await?;
        let error = match self.attempt(&prepared, cx, form, &credentials, &read).await {
            Err(error) if error.kind() == ErrorKind::InvalidClient => error,
            outcome => return outcome,
        };
        if !prepared.auth.can_change() {
            return Err(error);
        }
        // A secret that is rotated may have been read just before. Another one is tried once; if
        // there is none, the server meant it.
        match self.credentials(&prepared.auth, cx).await {
            Ok(other) if !other.same_secret(&credentials) => {
                self.attempt(&prepared, cx, form, &other, &read).await
            }
            _ => Err(error),
        }
    }

    /// Sends a request, and again while the answer teaches something that may help: another nonce for
    /// the proof of the key, or the time by the server's clock.
    async fn attempt<T>(
        &self,
        prepared: &Prepared,
        cx: &FetchContext,
        form: &Form,
        credentials: &Credentials,
        read: impl Fn(&Exchanged<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (mut outcome, mut learned) =
            self.exchange(prepared, cx, form, credentials, &read).await?;
        for _ in 1..MOST_ATTEMPTS {
            if !learned {
                return outcome;
            }
            // An assertion is used once, so it is signed anew.
            let credentials = self.credentials(&prepared.auth, cx).await?;
            (outcome, learned) = self.exchange(prepared, cx, form, &credentials, &read).await?;
        }
        match outcome {
            Err(error) if learned => Err(unsettled(&error)),
            outcome => outcome,
        }
    }

    async fn prepare(&self, cx: &FetchContext) -> Result<Prepared, Error> {
        let metadata = self.metadata(cx).await?;
        let auth = self.auth.for_server(&self.offer(metadata.as_deref()))?;
        let Location { kind, url, .. } = &self.location;
        let url = match (url, &metadata) {
            (Some(url), _) => url.clone(),
            // RFC 8705 §5: also where the certificate is not how the client authenticates, but what
            // its tokens are bound to.
            (None, Some(metadata)) => {
                metadata.locate(*kind, auth.is_mtls() || self.transport.is_mtls())?
            }
            (None, None) => {
                let message = format!("the {}'s URL is not configured", kind.name());
                return Err(Error::new(ErrorKind::Configuration, message));
            }
        };
        let proved = self.transport.sent_url(url.uri());
        if let Some(prover) = Prover::new(&self.accepted, &proved) {
            prover.check(metadata.as_deref())?;
        }
        if auth.is_mtls() && !url.is_https() {
            let message = format!("the {} is plain http, which knows no certificates", kind.name());
            return Err(Error::new(ErrorKind::Configuration, message));
        }
        Ok(Prepared { url, proved, auth })
    }

    async fn metadata(&self, cx: &FetchContext) -> Result<Option<Arc<Metadata>>, Error> {
        let Location { url, discovery: Some(discovery), .. } = &self.location else {
            return Ok(None);
        };
        if url.is_some() && !self.auth.needs_offer() {
            return Ok(None);
        }
        discovery.find(&self.transport, self.deadline(cx)).await.map(Some)
    }

    fn offer<'a>(&self, metadata: Option<&'a Metadata>) -> Offer<'a> {
        let kind = self.location.kind;
        let mut offer = metadata.map_or(Offer::UNKNOWN, |metadata| Offer {
            issuer: Some(metadata.issuer()),
            methods: metadata.auth_methods(kind),
            algorithms: metadata.auth_algorithms(kind),
        });
        if let Some(allowed) = self.algorithms {
            offer.algorithms = offer.algorithms.map(|offered| {
                let mut names = offered.unwrap_or_else(|| allowed.to_vec());
                names.retain(|name| allowed.contains(name));
                Some(names)
            });
        }
        offer
    }

    async fn credentials(
        &self,
        auth: &ClientAuth,
        cx: &FetchContext,
    ) -> Result<Credentials, Error> {
        let now = self.clock.time(cx.clock.now().wall);
        match timeout_at(self.deadline(cx), auth.credentials(now)).await {
            Ok(credentials) => credentials,
            Err(_) => {
                Err(Error::new(ErrorKind::Timeout, "the client's secret could not be read in time"))
            }
        }
    }

    /// Sends a request once. Returns also whether the answer teaches something with which another one
    /// may do: a new proof of the key, or an assertion that is dated by the server's clock.
    async fn exchange<T>(
        &self,
        prepared: &Prepared,
        cx: &FetchContext,
        form: &Form,
        credentials: &Credentials,
        read: impl Fn(&Exchanged<'_>) -> Result<T, Error>,
    ) -> Result<(Result<T, Error>, bool), Error> {
        let prover = Prover::new(&self.accepted, &prepared.proved);
        let proof = prover.as_ref().map(|prover| prover.prove(cx.clock.now().wall)).transpose()?;
        let proof = proof.as_ref();
        let request = request(&prepared.url, form, credentials, proof);
        let limits = Limits { deadline: self.deadline(cx), body: self.body_limit };
        let now = || (Instant::now(), cx.clock.now().wall);
        let sent = now();
        let answer = self.transport.exchange(request, limits).await;
        let answer = answer.inspect_err(|_| self.location.doubt())?;
        if answer.status() == StatusCode::NOT_FOUND {
            self.location.doubt();
        }
        let method = prepared.auth.method();
        let (received, answered, codes) = (now(), &answer, &self.codes);
        let exchanged =
            Exchanged { answer: answered, method, codes, sent, received, form, credentials, proof };
        let outcome = read(&exchanged);
        let another_proof = prover.is_some_and(|prover| {
            prover.learn(answer.headers(), outcome.as_ref().err(), cx.clock.now().wall)
        });
        let another_date = self.learn_date(&prepared.auth, &answer, outcome.as_ref().err(), cx);
        wipe(answer.into_body());
        Ok((outcome, another_proof || another_date))
    }

    /// Whether an assertion was refused that a wrong clock had dated. Our own is not believed over
    /// the server's: it is the server that judges.
    fn learn_date(
        &self,
        auth: &ClientAuth,
        answer: &Answer,
        error: Option<&Error>,
        cx: &FetchContext,
    ) -> bool {
        let refused = error.is_some_and(|error| error.kind() == ErrorKind::InvalidClient);
        let date = date(answer.headers()).filter(|_| refused && auth.is_dated());
        date.is_some_and(|date| self.clock.correct(date, cx.clock.now().wall))
    }

    fn deadline(&self, cx: &FetchContext) -> Instant {
        let own = Instant::now().checked_add(self.timeout);
        own.map_or(cx.deadline, |own| own.min(cx.deadline))
    }
}

impl Location {
    /// The endpoint did not work: it may have moved.
    fn doubt(&self) {
        if let (None, Some(discovery)) = (&self.url, &self.discovery) {
            discovery.doubt();
        }
    }
}

impl Exchanged<'_> {
    /// Finds what was sent in secret: it must not come back in an error.
    pub(crate) fn redactor(&self) -> Redactor {
        let header = self.credentials.authorization().and_then(|value| value.to_str().ok());
        let blob = header.and_then(|value| value.split_once(' '));
        let blob = blob.map(|(_, blob)| Secret::from(blob));
        let proof = self.proof.and_then(|value| value.to_str().ok()).map(Secret::from);
        let sent = self.form.secrets().chain(self.credentials.secrets());
        Redactor::new(sent.chain(&blob).chain(&proof))
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.url, &self.discovery) {
            (Some(url), _) => url.fmt(f),
            (None, Some(discovery)) => discovery.fmt(f),
            (None, None) => f.write_str("none"),
        }
    }
}

/// The error of a server that wanted something else after each attempt. It may be content with the
/// next one, so it passes.
fn unsettled(error: &Error) -> Error {
    let message = format!(
        "the authorization server wanted another proof or date after each of {MOST_ATTEMPTS} attempts"
    );
    let unsettled = Error::new(ErrorKind::Server, message);
    let unsettled = match error.oauth() {
        Some(said) => unsettled.with_oauth(said.clone()),
        None => unsettled,
    };
    match error.retry_at() {
        Some(at) => unsettled.with_retry_at(at),
        None => unsettled,
    }
}

/// RFC 6749 §3.2: "The client MUST use the HTTP "POST" method when making access token requests."
/// RFC 7009 §2.1 and RFC 7662 §2.1 have the same form.
fn request(
    url: &Endpoint,
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
    *request.uri_mut() = url.uri().clone();
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

/// The answer holds tokens. Its buffer is wiped if nobody else has a part of it; what lies in the
/// HTTP client's own buffers is out of reach.
pub(super) fn wipe(body: Bytes) {
    if let Ok(mut buffer) = body.try_into_mut() {
        buffer.as_mut().zeroize();
    }
}

/// How often one form is sent at most, while each answer teaches something new.
const MOST_ATTEMPTS: usize = 3;
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const DPOP: HeaderName = HeaderName::from_static("dpop");
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
