use std::collections::HashMap;

use bytes::Bytes;
use http::{
    StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use serde_json::{Value, json};

use super::{recorded::Recorded, reply::JSON};

/// The clients that a server knows. Without any, it takes all.
#[derive(Debug, Default)]
pub(super) struct Clients {
    secrets: HashMap<String, String>,
}

/// An error answer ([RFC 6749 §5.2]).
///
/// [RFC 6749 §5.2]: https://www.rfc-editor.org/rfc/rfc6749#section-5.2
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) description: &'static str,
    /// The client tried HTTP authentication, so that it gets a challenge.
    challenge: bool,
}

/// The client of a request, and whether it proved that it is.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) authenticated: bool,
}

impl Clients {
    pub(super) fn register(&mut self, id: &str, secret: &str) {
        self.secrets.insert(id.to_owned(), secret.to_owned());
    }

    /// Finds out which client sent a request.
    pub(super) fn authenticate(&self, request: &Recorded) -> Result<Client, Refusal> {
        let header = request.headers.get_all(AUTHORIZATION).iter().count();
        let secret = request.param("client_secret");
        let assertion = request.param("client_assertion");
        // RFC 6749 §2.3: "The client MUST NOT use more than one authentication method in each
        // request."
        if header + usize::from(secret.is_some()) + usize::from(assertion.is_some()) > 1 {
            return Err(invalid_request("more than one client authentication"));
        }
        let named = request.param("client_id");
        if header == 1 {
            let refused = Refusal { challenge: true, ..invalid_client("the header is not Basic") };
            let (id, secret) = request.basic().ok_or(refused)?;
            if named.is_some_and(|named| named != id) {
                return Err(invalid_request("client_id is another one than in the header"));
            }
            return self
                .check(id, Some(&secret))
                .map_err(|refusal| Refusal { challenge: true, ..refusal });
        }
        match (named, secret, assertion) {
            // Assertions are taken unseen, but prove nothing to a server that knows its clients.
            (named, None, Some(_)) if self.secrets.is_empty() => {
                let id = named.unwrap_or_else(|| "assertion".to_owned());
                Ok(Client { id, authenticated: true })
            }
            (Some(id), secret, None) => self.check(id, secret.as_deref()),
            _ => Err(invalid_client("no client authentication that this server knows")),
        }
    }

    fn check(&self, id: String, secret: Option<&str>) -> Result<Client, Refusal> {
        let known = self.secrets.is_empty()
            || self.secrets.get(&id).is_some_and(|known| Some(known.as_str()) == secret);
        if known {
            Ok(Client { id, authenticated: secret.is_some() })
        } else {
            Err(invalid_client("unknown client or wrong secret"))
        }
    }
}

impl Refusal {
    pub(super) fn new(code: &'static str, description: &'static str) -> Self {
        Self { code, description, challenge: false }
    }

    pub(super) fn response(self) -> http::Response<Bytes> {
        let status = match self.code {
            "invalid_client" => StatusCode::UNAUTHORIZED,
            _ => StatusCode::BAD_REQUEST,
        };
        let body = json!({ "error": self.code, "error_description": self.description });
        let mut response = json_response(status, &body);
        if self.challenge && status == StatusCode::UNAUTHORIZED {
            let value = http::HeaderValue::from_static("Basic realm=\"as\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, value);
        }
        response
    }
}

pub(super) fn invalid_request(description: &'static str) -> Refusal {
    Refusal::new("invalid_request", description)
}

pub(super) fn invalid_client(description: &'static str) -> Refusal {
    Refusal::new("invalid_client", description)
}

/// An answer that must not be cached ([RFC 6749 §5.1]).
///
/// [RFC 6749 §5.1]: https://www.rfc-editor.org/rfc/rfc6749#section-5.1
pub(super) fn json_response(status: StatusCode, body: &Value) -> http::Response<Bytes> {
    let mut response = http::Response::new(body.to_string().into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}
