use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use serde_json::json;

use super::{
    answer::Answer, clients::json_response, endpoints::Endpoints, host::Site, recorded::Recorded,
    script::Script, tokens::Inactive,
};

/// The logic of the protected API.
#[derive(Debug)]
pub(super) struct Guard {
    tokens: Arc<Endpoints>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) script: Script,
    pub(super) requests: Vec<Recorded>,
    pub(super) refused: usize,
    pub(super) delay: Duration,
    pub(super) challenge: Challenge,
    pub(super) grpc: bool,
    pub(super) refuse_early: bool,
}

/// The challenge in refusals.
#[derive(Debug, Default)]
pub(super) enum Challenge {
    /// The one that fits the refusal.
    #[default]
    Fitting,
    Always(HeaderValue),
    Never,
}

/// Why a request is not served.
#[derive(Debug, Clone, Copy)]
enum Refused {
    Anonymous,
    Ambiguous,
    Inactive(Inactive),
}

impl Guard {
    pub(super) fn new(tokens: Arc<Endpoints>) -> Self {
        Self { tokens, state: Mutex::default() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, request: &Recorded) -> Result<(), Refused> {
        if request.headers.get_all(AUTHORIZATION).iter().count() > 1 {
            return Err(Refused::Ambiguous);
        }
        let token = request.bearer().ok_or(Refused::Anonymous)?;
        self.tokens.state().tokens.check(token).map_err(Refused::Inactive)?;
        Ok(())
    }
}

impl Site for Guard {
    fn refuse_early(&self, head: &Recorded) -> Option<Answer> {
        let mut state = self.state();
        let early = state.refuse_early && state.script.next_is_honest();
        let refused = self.check(head).err().filter(|_| early)?;
        Some(state.answer(head.clone(), Err(refused)))
    }

    fn answer(&self, request: Recorded) -> Answer {
        let checked = self.check(&request);
        self.state().answer(request, checked)
    }
}

impl State {
    fn answer(&mut self, request: Recorded, checked: Result<(), Refused>) -> Answer {
        let reply = self.script.next();
        let mut answer = Answer::new(reply, &request.method, || match checked {
            Ok(()) => served(&request),
            Err(refused) => self.refusal(refused),
        });
        answer.delay = answer.delay.saturating_add(self.delay);
        if answer.response().is_some_and(|response| {
            response.status == StatusCode::UNAUTHORIZED
                || response.headers.get(GRPC_STATUS).is_some_and(|status| status == "16")
        }) {
            self.refused += 1;
        }
        self.requests.push(request);
        answer
    }

    fn refusal(&self, refused: Refused) -> http::Response<Bytes> {
        let (status, challenge) = match refused {
            Refused::Ambiguous => {
                (StatusCode::BAD_REQUEST, r#"Bearer realm="api", error="invalid_request""#)
            }
            // RFC 6750 §3.1: "If the request lacks any authentication information [...], the
            // resource server SHOULD NOT include an error code or other error information."
            Refused::Anonymous => (StatusCode::UNAUTHORIZED, r#"Bearer realm="api""#),
            Refused::Inactive(inactive) => (StatusCode::UNAUTHORIZED, invalid_token(inactive)),
        };
        if self.grpc && status == StatusCode::UNAUTHORIZED {
            let mut response = http::Response::new(Bytes::new());
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(GRPC_STATUS, HeaderValue::from_static("16"));
            return response;
        }
        let mut response = json_response(status, &json!({ "ok": false }));
        let challenge = match &self.challenge {
            Challenge::Fitting => Some(HeaderValue::from_static(challenge)),
            Challenge::Always(other) => Some(other.clone()),
            Challenge::Never => None,
        };
        if let Some(challenge) = challenge {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

fn served(request: &Recorded) -> http::Response<Bytes> {
    let body = json!({
        "ok": true,
        "method": request.method.as_str(),
        "path": request.path(),
        "body_len": request.body.len(),
    });
    json_response(StatusCode::OK, &body)
}

fn invalid_token(inactive: Inactive) -> &'static str {
    match inactive {
        Inactive::Unknown => {
            r#"Bearer realm="api", error="invalid_token", error_description="the access token is unknown""#
        }
        Inactive::Expired => {
            r#"Bearer realm="api", error="invalid_token", error_description="the access token expired""#
        }
        Inactive::Revoked => {
            r#"Bearer realm="api", error="invalid_token", error_description="the access token is revoked""#
        }
    }
}

const GRPC_STATUS: &str = "grpc-status";
