//! A server that checks the proof of every request and answers as a test tells it.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri};
use http_body::Body;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::Service;
use tower_oauth::{ClientAuth, ClientCredentials, DpopAlgorithm, DpopKey, Transport};

pub(super) const TOKEN_ENDPOINT: &str = "https://as.example/token";
pub(super) const API: &str = "https://api.example";

/// A request as it arrived.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Header and claims of its proof, whose signature was good.
    pub(super) proof: Option<(Value, Value)>,
}

impl Seen {
    pub(super) fn claim(&self, name: &str) -> Option<&str> {
        self.claims().get(name)?.as_str()
    }

    pub(super) fn claims(&self) -> &Value {
        &self.proof.as_ref().expect("the request has a proof").1
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn param(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(&self.body)
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.into_owned())
    }
}

type Answer = dyn Fn(&Seen, usize) -> Response<String> + Send + Sync;

/// Clones are the same server.
#[derive(Clone)]
pub(super) struct Server {
    seen: Arc<Mutex<Vec<Seen>>>,
    answer: Arc<Answer>,
    ready: bool,
}

impl Server {
    /// Answers what `answer` says, which is also told how many requests came before.
    pub(super) fn new(
        answer: impl Fn(&Seen, usize) -> Response<String> + Send + Sync + 'static,
    ) -> Self {
        Self { seen: Arc::default(), answer: Arc::new(answer), ready: false }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl<B> Service<Request<B>> for Server
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: std::fmt::Debug,
{
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been polled ready");
        let this = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.expect("the body can be read").to_bytes();
            let mut proofs = parts.headers.get_all("dpop").iter();
            let proof = proofs.next().map(|proof| {
                assert!(proof.is_sensitive());
                verified(proof.to_str().unwrap())
            });
            assert!(proofs.next().is_none(), "two proofs");
            let (uri, headers) = (parts.uri, parts.headers);
            let seen = Seen { uri, headers, body, proof };
            let before = {
                let mut list = this.seen.lock().unwrap();
                list.push(seen.clone());
                list.len() - 1
            };
            Ok((this.answer)(&seen, before))
        })
    }
}

/// Header and claims of a proof signed with ES256 by the key in its header.
pub(super) fn verified(proof: &str) -> (Value, Value) {
    let decoded = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
    let (message, signature) = proof.rsplit_once('.').unwrap();
    let (header, claims) = message.split_once('.').unwrap();
    let header: Value = serde_json::from_slice(&decoded(header)).unwrap();
    assert_eq!(header["typ"], "dpop+jwt");
    assert_eq!(header["alg"], "ES256");
    let number = |name: &str| decoded(header["jwk"][name].as_str().unwrap());
    let point = [&[4][..], &number("x"), &number("y")].concat();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(message.as_bytes(), &decoded(signature))
        .expect("the proof's own key made its signature");
    (header, serde_json::from_slice(&decoded(claims)).unwrap())
}

pub(super) fn key() -> DpopKey {
    DpopKey::generate(DpopAlgorithm::Es256).unwrap()
}

pub(super) fn answer(
    status: u16,
    fields: &[(&str, &str)],
    body: impl Into<String>,
) -> Response<String> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

/// A token response: `token-1`, `token-2` and so on.
pub(super) fn token(number: usize, fields: &[(&str, &str)]) -> Response<String> {
    let body = json!({
        "access_token": format!("token-{number}"),
        "token_type": "DPoP",
        "expires_in": 3600,
    });
    answer(200, fields, body.to_string())
}

/// An authorization server that gives bound tokens, if there is a proof.
pub(super) fn honest() -> Server {
    Server::new(|seen, before| {
        assert!(seen.proof.is_some(), "a request without a proof");
        token(before + 1, &[])
    })
}

pub(super) fn refusal(status: u16, error: &str, fields: &[(&str, &str)]) -> Response<String> {
    answer(status, fields, json!({ "error": error }).to_string())
}

/// Client credentials at a server, for tokens bound to `key`.
pub(super) fn client_credentials(server: &Server, key: &DpopKey) -> ClientCredentials {
    ClientCredentials::builder(TOKEN_ENDPOINT, ClientAuth::basic("orders", "secret"))
        .dpop(key.clone())
        .transport(transport(server))
        .build()
        .unwrap()
}

pub(super) fn transport(server: &Server) -> Transport {
    Transport::new::<_, http_body_util::Full<Bytes>, _>(server.clone())
}
