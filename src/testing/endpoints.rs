use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{
    Method, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use serde_json::{Map, Value, json};

use super::{
    answer::Answer,
    clients::{Clients, Refusal, invalid_client, invalid_request, json_response},
    host::Site,
    recorded::Recorded,
    reply::Reply,
    script::Script,
    tokens::{Grant, Refused, Rotation, Tokens},
};

/// The logic of the authorization server.
#[derive(Debug, Default)]
pub(super) struct Endpoints(Mutex<State>);

#[derive(Debug)]
pub(super) struct State {
    pub(super) tokens: Tokens,
    pub(super) clients: Clients,
    pub(super) script: Script,
    pub(super) requests: Vec<Recorded>,
    /// The server's own URL.
    pub(super) issuer: String,
    pub(super) issued: usize,
    pub(super) reuse_detected: bool,
    pub(super) lifetime: Duration,
    pub(super) rotation: Rotation,
    pub(super) omit_expires_in: bool,
    pub(super) refresh_tokens: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            tokens: Tokens::default(),
            clients: Clients::default(),
            script: Script::default(),
            requests: Vec::new(),
            issuer: String::new(),
            issued: 0,
            reuse_detected: false,
            lifetime: Duration::from_secs(3600),
            rotation: Rotation::Never,
            omit_expires_in: false,
            refresh_tokens: false,
        }
    }
}

impl Endpoints {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Site for Endpoints {
    fn refuse_early(&self, _: &Recorded) -> Option<Answer> {
        None
    }

    fn answer(&self, request: Recorded) -> Answer {
        let state = &mut *self.state();
        state.requests.push(request.clone());
        let (endpoint, reply): (Endpoint, _) = match request.path() {
            TOKEN_PATH => (State::token, state.script.next()),
            REVOKE_PATH => (State::revoke, Reply::honest()),
            INTROSPECT_PATH => (State::introspect, Reply::honest()),
            METADATA_PATH => {
                let metadata = || state.metadata(&request.method);
                return Answer::new(Reply::honest(), &request.method, metadata);
            }
            _ => return Answer::status(StatusCode::NOT_FOUND),
        };
        Answer::new(reply, &request.method, || state.serve(endpoint, &request))
    }
}

type Endpoint = fn(&mut State, &Recorded) -> Result<http::Response<Bytes>, Refusal>;

impl State {
    /// RFC 8414 §3
    fn metadata(&self, method: &Method) -> http::Response<Bytes> {
        if method != Method::GET {
            return not_allowed("GET");
        }
        let url = |path| format!("{}{path}", self.issuer);
        let methods = ["client_secret_basic", "client_secret_post", "none"];
        let body = json!({
            "issuer": self.issuer,
            "token_endpoint": url(TOKEN_PATH),
            "revocation_endpoint": url(REVOKE_PATH),
            "introspection_endpoint": url(INTROSPECT_PATH),
            "response_types_supported": [],
            "grant_types_supported": ["client_credentials", "refresh_token", TOKEN_EXCHANGE],
            "token_endpoint_auth_methods_supported": methods,
        });
        json_response(StatusCode::OK, &body)
    }

    /// What all three endpoints ask of a request, and then the endpoint.
    fn serve(&mut self, endpoint: Endpoint, request: &Recorded) -> http::Response<Bytes> {
        if request.method != Method::POST {
            return not_allowed("POST");
        }
        well_formed(request)
            .and_then(|()| endpoint(self, request))
            .unwrap_or_else(Refusal::response)
    }

    fn token(&mut self, request: &Recorded) -> Result<http::Response<Bytes>, Refusal> {
        let client = self.clients.authenticate(request)?;
        let scope = request.param("scope").filter(|scope| !scope.is_empty());
        let (grant, refresh_token) = match request.param("grant_type").as_deref() {
            Some("client_credentials") if client.authenticated => {
                let grant = self.tokens.grant(&client.id, scope);
                let refresh_token =
                    self.refresh_tokens.then(|| self.tokens.issue_refresh(grant.clone()));
                (grant, refresh_token)
            }
            // RFC 6749 §4.4: "The client credentials grant type MUST only be used by confidential
            // clients."
            Some("client_credentials") => return Err(invalid_client("no client authentication")),
            Some(TOKEN_EXCHANGE) if client.authenticated => {
                (self.exchange(&client.id, scope, request)?, None)
            }
            Some("refresh_token") => self.refresh(&client.id, scope.as_deref(), request)?,
            Some(_) => return Err(Refusal::new("unsupported_grant_type", "unknown grant type")),
            None => return Err(invalid_request("grant_type is missing")),
        };
        let exchanged = request.param("grant_type").as_deref() == Some(TOKEN_EXCHANGE);
        Ok(self.token_response(grant, refresh_token, exchanged))
    }

    /// RFC 8693 §2: a token of this server's for one of the client's own.
    fn exchange(
        &mut self,
        client: &str,
        scope: Option<String>,
        request: &Recorded,
    ) -> Result<Grant, Refusal> {
        let missing = invalid_request("subject_token or subject_token_type is missing");
        let (Some(subject), Some(_)) =
            (request.param("subject_token"), request.param("subject_token_type"))
        else {
            return Err(missing);
        };
        // RFC 8693 §2.2.2: "If the authorization server determines that [...] the subject_token
        // [...] is invalid for any reason", it answers "invalid_request".
        let subject = self.tokens.check(&subject);
        let subject = subject.map_err(|_| invalid_request("the subject token is not active"))?;
        let scope = scope.or_else(|| subject.scope.clone());
        Ok(self.tokens.grant(client, scope))
    }

    fn refresh(
        &mut self,
        client: &str,
        scope: Option<&str>,
        request: &Recorded,
    ) -> Result<(Grant, Option<String>), Refusal> {
        let token =
            request.param("refresh_token").ok_or(invalid_request("refresh_token is missing"))?;
        let redeemed = self.tokens.redeem(&token, client, scope, self.rotation);
        let grant = redeemed.map_err(|refused| match refused {
            Refused::Dead => Refusal::new("invalid_grant", "unknown or revoked refresh token"),
            Refused::Reused => {
                self.reuse_detected = true;
                Refusal::new("invalid_grant", "the refresh token was used before")
            }
            Refused::Scope => Refusal::new("invalid_scope", "more scope than was granted"),
        })?;
        // RFC 6749 §6: "the refresh token scope MUST be identical to that of the refresh token
        // included by the client in the request."
        let whole = self.tokens.refresh_grant(&token).cloned();
        let rotated = match self.rotation {
            Rotation::Never => None,
            Rotation::Always { .. } => whole.map(|grant| self.tokens.issue_refresh(grant)),
        };
        Ok((grant, rotated))
    }

    fn token_response(
        &mut self,
        grant: Grant,
        refresh_token: Option<String>,
        exchanged: bool,
    ) -> http::Response<Bytes> {
        let scope = grant.scope.clone();
        let access_token = self.tokens.issue_access(grant, self.lifetime);
        self.issued += 1;
        let mut members = Map::new();
        members.insert("access_token".into(), access_token.into());
        members.insert("token_type".into(), "Bearer".into());
        if exchanged {
            // RFC 8693 §2.2.1
            members.insert("issued_token_type".into(), ACCESS_TOKEN.into());
        }
        if !self.omit_expires_in {
            members.insert("expires_in".into(), self.lifetime.as_secs().into());
        }
        if let Some(scope) = scope {
            members.insert("scope".into(), scope.into());
        }
        if let Some(refresh_token) = refresh_token {
            members.insert("refresh_token".into(), refresh_token.into());
        }
        json_response(StatusCode::OK, &Value::Object(members))
    }

    fn revoke(&mut self, request: &Recorded) -> Result<http::Response<Bytes>, Refusal> {
        let client = self.clients.authenticate(request)?;
        let token = request.param("token").ok_or(invalid_request("token is missing"))?;
        match self.tokens.owner(&token) {
            Some(owner) if owner != client.id => {
                Err(Refusal::new("unauthorized_client", "the token is another client's"))
            }
            // RFC 7009 §2.2: "invalid tokens do not cause an error response".
            _ => {
                self.tokens.revoke(&token);
                Ok(http::Response::new(Bytes::new()))
            }
        }
    }

    fn introspect(&mut self, request: &Recorded) -> Result<http::Response<Bytes>, Refusal> {
        self.clients.authenticate(request)?;
        let token = request.param("token").ok_or(invalid_request("token is missing"))?;
        let body = match self.tokens.check(&token) {
            Ok(grant) => json!({
                "active": true,
                "client_id": grant.client,
                "scope": grant.scope.as_deref().unwrap_or_default(),
                "token_type": "Bearer",
            }),
            Err(_) => json!({ "active": false }),
        };
        Ok(json_response(StatusCode::OK, &body))
    }
}

fn not_allowed(allowed: &'static str) -> http::Response<Bytes> {
    let mut response = http::Response::new(Bytes::new());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(ALLOW, http::HeaderValue::from_static(allowed));
    response
}

fn well_formed(request: &Recorded) -> Result<(), Refusal> {
    let content_type = request.headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    if !essence.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
        return Err(invalid_request("the body is not a form"));
    }
    // RFC 6749 §3.2: "Request and response parameters MUST NOT be included more than once."
    let mut seen = HashSet::new();
    // RFC 8707 §2 allows several resources, and RFC 8693 §2.1 several audiences.
    let repeatable = ["resource", "audience"];
    for (name, _) in request.form() {
        if !repeatable.contains(&name.as_str()) && !seen.insert(name) {
            return Err(invalid_request("a parameter is repeated"));
        }
    }
    Ok(())
}

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
pub(super) const TOKEN_PATH: &str = "/token";
const REVOKE_PATH: &str = "/revoke";
const INTROSPECT_PATH: &str = "/introspect";
const METADATA_PATH: &str = "/.well-known/oauth-authorization-server";
