//! What follows redirects or retries below the layer, and above it.

use std::{
    collections::HashSet,
    future::{Ready, ready},
    sync::Mutex,
};

use http::{Request, Response};
use tower::{
    Layer, ServiceBuilder, ServiceExt,
    retry::{Policy, RetryLayer},
};
use tower_http::follow_redirect::{
    FollowRedirectLayer,
    policy::{FilterCredentials, Limited, PolicyExt},
};
use tower_oauth::{CloneRequest, OAuthLayer, TokenHandle};

use super::server::{API, Seen, Server, answer, client_credentials, honest, key};

async fn layer() -> OAuthLayer<CloneRequest> {
    let tokens = TokenHandle::spawn(client_credentials(&honest(), &key()));
    tokens.ready().await.unwrap();
    OAuthLayer::new(tokens, API.parse().unwrap()).replay(CloneRequest)
}

fn get(url: &str) -> Request<String> {
    Request::get(url).body(String::new()).unwrap()
}

/// An allowed origin redirects to another one, and that one within itself.
fn net() -> Server {
    Server::new(|seen, _| match &*seen.uri.to_string() {
        "https://api.example/" => answer(307, &[("location", "https://evil.example/start")], ""),
        "https://evil.example/start" => answer(307, &[("location", "/end")], ""),
        _ => answer(200, &[], ""),
    })
}

/// Which hops had a token, and which a proof.
fn carried(net: &Server) -> Vec<(bool, bool)> {
    let carried = |seen: &Seen| (seen.header("authorization").is_some(), seen.proof.is_some());
    net.seen().iter().map(carried).collect()
}

#[tokio::test(start_paused = true)]
async fn f105_a_follower_above_takes_neither_token_nor_proof_to_a_foreign_origin() {
    let net = net();
    let stack = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer(layer().await)
        .service(net.clone());
    assert_eq!(stack.oneshot(get(API)).await.unwrap().status(), 200);
    assert_eq!(carried(&net), [(true, true), (false, false), (false, false)]);
}

/// The line that the documentation gives.
#[tokio::test(start_paused = true)]
async fn f105_a_follower_below_that_removes_all_headers_takes_neither_along() {
    let net = net();
    let policy = Limited::new(10).and::<_, (), ()>(FilterCredentials::new().remove_all());
    let follower = FollowRedirectLayer::with_policy(policy);
    let stack = ServiceBuilder::new().layer(layer().await).layer(follower).service(net.clone());
    assert_eq!(stack.oneshot(get(API)).await.unwrap().status(), 200);
    assert_eq!(carried(&net), [(true, true), (false, false), (false, false)]);
}

/// Why that line is needed. If this fails, tower-http removes proofs too: say so in the
/// documentation.
#[tokio::test(start_paused = true)]
async fn f105_a_follower_below_with_its_own_policy_takes_the_proof_along() {
    let net = net();
    let stack = layer().await.layer(FollowRedirectLayer::new().layer(net.clone()));
    assert_eq!(stack.oneshot(get(API)).await.unwrap().status(), 200);
    assert_eq!(carried(&net), [(true, true), (false, true), (false, true)]);
}

/// Tries three times, whenever the answer is 503.
#[derive(Clone)]
struct OnUnavailable(u32);

impl<E> Policy<Request<String>, Response<String>, E> for OnUnavailable {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<String>,
        result: &mut Result<Response<String>, E>,
    ) -> Option<Ready<()>> {
        let unavailable = result.as_ref().is_ok_and(|response| response.status() == 503);
        self.0 = self.0.checked_sub(u32::from(unavailable))?;
        unavailable.then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<String>) -> Option<Request<String>> {
        Some(request.clone())
    }
}

/// RFC 9449 §11.1: a server refuses a proof that it has seen. This one is also busy, twice.
fn once_only() -> Server {
    let known = Mutex::new(HashSet::new());
    Server::new(move |seen, before| {
        if !known.lock().unwrap().insert(seen.claim("jti").unwrap().to_owned()) {
            let challenge = r#"DPoP error="invalid_dpop_proof", error_description="seen before""#;
            return answer(401, &[("www-authenticate", challenge)], "");
        }
        answer(if before < 2 { 503 } else { 200 }, &[], "")
    })
}

#[tokio::test(start_paused = true)]
async fn f110_each_attempt_of_a_retry_above_has_a_proof_of_its_own() {
    let api = once_only();
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new(OnUnavailable(3)))
        .layer(layer().await)
        .service(api.clone());
    assert_eq!(stack.oneshot(get(API)).await.unwrap().status(), 200);
    let proofs: HashSet<_> =
        api.seen().iter().map(|s| s.claim("jti").unwrap().to_owned()).collect();
    assert_eq!((api.count(), proofs.len()), (3, 3));
}

/// As documented: a retry below sends one proof twice.
#[tokio::test(start_paused = true)]
async fn f110_a_retry_below_sends_its_proof_again_and_is_refused() {
    let api = once_only();
    let stack = ServiceBuilder::new()
        .layer(layer().await)
        .layer(RetryLayer::new(OnUnavailable(3)))
        .service(api.clone());
    assert_eq!(stack.oneshot(get(API)).await.unwrap().status(), 401);
    let [first, second] = api.seen().try_into().ok().unwrap();
    assert_eq!(first.claim("jti"), second.claim("jti"));
}
