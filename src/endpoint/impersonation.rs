use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method,
    header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    answer::{Reading, members},
    caller::wipe,
    codes::ErrorCodes,
    redactor::Redactor,
    response::Rules,
    rfc3339::parse_rfc3339,
    seconds::{duration, time_left},
};
use crate::{
    error::{Error, ErrorKind},
    http::{Answer, Endpoint, Limits, Transport, server_time, wiped_string},
    secret::Secret,
    source::FetchContext,
    token::{Scopes, TokenSet, TokenType},
};

/// The last step of Google's workload identity: a federated token is traded for the access token of
/// a service account ([`generateAccessToken`]). It is not OAuth; only the tokens are.
///
/// [`generateAccessToken`]: https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken
#[derive(Clone)]
pub(crate) struct Impersonation {
    pub(crate) url: Endpoint,
    pub(crate) transport: Transport,
    pub(crate) timeout: Duration,
    pub(crate) body_limit: usize,
    pub(crate) rules: Rules,
    pub(crate) codes: ErrorCodes,
    pub(crate) scopes: Scopes,
    /// How long the token shall live, in seconds.
    pub(crate) lifetime: u64,
}

impl Impersonation {
    /// Asks for the service account's token with another one.
    pub(crate) async fn request(
        &self,
        cx: &FetchContext,
        federated: &TokenSet,
    ) -> Result<TokenSet, Error> {
        if federated.token_type() != TokenType::Bearer {
            let message = "a federated token that is bound to a key cannot impersonate";
            return Err(Error::new(ErrorKind::UnusableToken, message));
        }
        let token = federated.access_token();
        let own = Instant::now().checked_add(self.timeout);
        let deadline = own.map_or(cx.deadline, |own| own.min(cx.deadline));
        let limits = Limits { deadline, body: self.body_limit };
        let now = || (Instant::now(), cx.clock.now().wall);
        let sent = now();
        let scopes = self.scopes_for(cx);
        let request = self.prepare(token, &scopes)?;
        let answer = self.transport.exchange(request, limits).await?;
        let (rules, codes, requested, received) = (&self.rules, &self.codes, &scopes, now());
        let reading = Reading { rules, requested, method: "none", codes, sent, received };
        let outcome = self.read(&answer, &reading, token);
        wipe(answer.into_body());
        outcome
    }

    /// What is asked for: the scopes that are configured, and those that APIs have asked for besides.
    fn scopes_for(&self, cx: &FetchContext) -> Scopes {
        let mut scopes = self.scopes.clone();
        if !cx.step_up.scopes.is_empty() {
            scopes.extend(&cx.step_up.scopes);
            if let Some(held) = cx.previous.as_ref().and_then(|previous| previous.scopes()) {
                scopes.extend(held);
            }
        }
        scopes
    }

    fn prepare(&self, token: &Secret, scopes: &Scopes) -> Result<http::Request<Bytes>, Error> {
        let scopes: Vec<_> = scopes.iter().collect();
        let body = json!({ "scope": scopes, "lifetime": format!("{}s", self.lifetime) });
        let mut request = http::Request::new(Bytes::from(body.to_string()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.uri().clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(ACCEPT, JSON);
        headers.insert(CACHE_CONTROL, NO_STORE);
        headers.insert(AUTHORIZATION, bearer(token)?);
        Ok(request)
    }

    /// `{"accessToken": "t", "expireTime": "2026-01-01T00:00:00Z"}`
    fn read(
        &self,
        answer: &Answer,
        reading: &Reading<'_>,
        sent: &Secret,
    ) -> Result<TokenSet, Error> {
        let mut object = members(answer, reading, || Redactor::new([sent])).map_err(explained)?;
        let malformed = |problem| Error::new(ErrorKind::MalformedResponse, problem);
        if object.repeats {
            return Err(malformed("the impersonation's answer has a member twice"));
        }
        let Some(Value::String(token)) = object.members.take("accessToken") else {
            return Err(malformed("the impersonation's answer has no accessToken"));
        };
        let token = TokenSet::bearer(token)?;
        let expiry = match object.members.take("expireTime") {
            Some(Value::String(text)) => parse_rfc3339(&text),
            _ => None,
        };
        let expiry = expiry
            .ok_or_else(|| malformed("the impersonation's answer has no expireTime of RFC 3339"))?;
        let (sent_at, wall) = reading.sent;
        let left = time_left(expiry.as_secs_f64(), server_time(answer.headers(), wall));
        let token = token.with_scopes(reading.requested.clone()).with_sent_at(sent_at);
        Ok(match left {
            Some(left) => token.with_time_left(duration(left, self.rules.max_lifetime)),
            None => token,
        })
    }
}

/// A refusal here is about the service account, not about a client.
fn explained(error: Error) -> Error {
    if !matches!(error.kind(), ErrorKind::InvalidClient | ErrorKind::Denied) {
        return error;
    }
    let message = "the service account cannot be impersonated: check its address, and that the \
                   workload's identity has the role roles/iam.workloadIdentityUser on it";
    let explained = Error::new(ErrorKind::Denied, message);
    match error.oauth() {
        Some(said) => explained.with_oauth(said.clone()),
        None => explained,
    }
}

fn bearer(token: &Secret) -> Result<HeaderValue, Error> {
    let mut value = wiped_string(SCHEME.len().saturating_add(token.expose().len()));
    value.push_str(SCHEME);
    value.push_str(token.expose());
    let header = HeaderValue::from_maybe_shared(Bytes::from_owner(value));
    let mut header = header.map_err(|_| {
        Error::new(ErrorKind::UnusableToken, "the federated token cannot stand in a header")
    })?;
    header.set_sensitive(true);
    Ok(header)
}

impl fmt::Debug for Impersonation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Impersonation")
            .field("url", &self.url)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

const SCHEME: &str = "Bearer ";
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
