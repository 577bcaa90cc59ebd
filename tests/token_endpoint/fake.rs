//! A token endpoint inside the test: it records what it gets and answers what it was told.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header::CONTENT_TYPE};
use tower::service_fn;
use tower_oauth::{FetchContext, TokenSource, Transport};

pub(crate) const URL: &str = "https://as.example/token";
pub(crate) const GRANTED: &str = r#"{"access_token":"t","token_type":"Bearer","expires_in":3600}"#;

/// What is answered; `None` loses the answer.
pub(crate) type Reply = Option<Response<String>>;

pub(crate) fn json(status: u16, body: &str) -> Reply {
    labelled(status, "application/json", body)
}

pub(crate) fn refused(status: u16, code: &str) -> Reply {
    json(status, &format!(r#"{{"error":"{code}"}}"#))
}

#[expect(clippy::unnecessary_wraps, reason = "as the other replies")]
pub(crate) fn labelled(status: u16, content_type: &str, body: &str) -> Reply {
    let answer = Response::builder().status(status).header(CONTENT_TYPE, content_type);
    Some(answer.body(body.to_owned()).unwrap())
}

pub(crate) fn granted() -> Reply {
    json(200, GRANTED)
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn params(&self) -> Vec<(String, String)> {
        form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }

    pub(crate) fn param(&self, name: &str) -> Option<String> {
        let found: Vec<_> = self.params().into_iter().filter(|(known, _)| known == name).collect();
        assert!(found.len() <= 1, "{name} is there twice");
        found.into_iter().next().map(|(_, value)| value)
    }

    /// The user and password of the `Authorization` header, as they stand in it.
    pub(crate) fn basic(&self) -> Option<(String, String)> {
        let blob = self.header("authorization")?.strip_prefix("Basic ")?;
        let pair = String::from_utf8(BASE64_STANDARD.decode(blob).unwrap()).unwrap();
        let (user, password) = pair.split_once(':').unwrap();
        Some((user.to_owned(), password.to_owned()))
    }
}

#[derive(Clone)]
pub(crate) struct Fake(Arc<Mutex<State>>);

struct State {
    replies: VecDeque<Reply>,
    seen: Vec<Seen>,
}

impl Fake {
    /// Answers with these in turn, and with the last one from then on.
    pub(crate) fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        let replies = replies.into_iter().collect();
        Self(Arc::new(Mutex::new(State { replies, seen: Vec::new() })))
    }

    pub(crate) fn transport(&self) -> Transport {
        let fake = self.clone();
        Transport::new(service_fn(move |request| {
            let reply = fake.take(request);
            async move { reply.ok_or_else(|| io::Error::other("connection reset")) }
        }))
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.lock().unwrap().seen.clone()
    }

    pub(crate) fn only(&self) -> Seen {
        let [seen] = <[Seen; 1]>::try_from(self.seen()).expect("exactly one request");
        seen
    }

    fn take(&self, request: Request<Bytes>) -> Reply {
        let mut state = self.0.lock().unwrap();
        let (parts, body) = request.into_parts();
        state.seen.push(Seen {
            method: parts.method,
            target: parts.uri.to_string(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        });
        if state.replies.len() > 1 {
            return state.replies.pop_front().unwrap();
        }
        state.replies.front().cloned().flatten()
    }
}

/// Fetches once, without a token from before.
pub(crate) async fn fetch(
    source: &impl TokenSource,
) -> Result<tower_oauth::TokenSet, tower_oauth::Error> {
    source.fetch(FetchContext::first()).await
}

/// Everything that an error shows, its causes included.
pub(crate) fn everything(error: &tower_oauth::Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text} {cause} {cause:?}");
        next = cause.source();
    }
    text
}
