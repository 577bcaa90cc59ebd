use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Full, StreamBody};
use tower::{Service, ServiceExt};
use tower_layer::Layer;
use tower_oauth::{
    BoxError, Buffered, CloneRequest, Error, ErrorKind, OAuthLayer, Origins, TokenHandle, TokenPool,
};

use super::server::{API, Seen, Server, answer, client_credentials, honest, key, verified};

/// A client with a token, the authorization server, and the API.
struct Setup {
    issuer: Server,
    api: Server,
    tokens: TokenHandle,
}

impl Setup {
    async fn new(
        answer: impl Fn(&Seen, usize) -> Response<String> + Send + Sync + 'static,
    ) -> Self {
        let (issuer, api) = (honest(), Server::new(answer));
        let tokens = TokenHandle::spawn(client_credentials(&issuer, &key()));
        tokens.ready().await.unwrap();
        Self { issuer, api, tokens }
    }

    fn layer(&self) -> OAuthLayer {
        OAuthLayer::new(self.tokens.clone(), API.parse().unwrap())
    }

    /// Sends a request; it is sent again if need be.
    async fn get(&self, url: &str) -> Response<String> {
        let client = self.layer().replay(CloneRequest).layer(self.api.clone());
        client.oneshot(get(url)).await.unwrap()
    }
}

fn get(url: &str) -> Request<String> {
    Request::get(url).body(String::new()).unwrap()
}

fn ok(_: &Seen, _: usize) -> Response<String> {
    answer(200, &[], "hello")
}

const WANTS_NONCE: &str = r#"Bearer realm="r", DPoP error="use_dpop_nonce", error_description="d""#;
const INVALID: &str = r#"DPoP error="invalid_token", algs="ES256""#;

/// Wants this nonce, and says so.
fn with_nonce(seen: &Seen, nonce: &str) -> Response<String> {
    if seen.claim("nonce") == Some(nonce) {
        answer(200, &[], "hello")
    } else {
        answer(401, &[("www-authenticate", WANTS_NONCE), ("dpop-nonce", nonce)], "")
    }
}

fn hash(token: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(digest)
}

#[tokio::test(start_paused = true)]
async fn dpo_06_a_bound_token_has_its_scheme_and_dpo_04_a_proof_of_this_very_request() {
    let s = Setup::new(ok).await;
    s.get("https://api.example/orders/7?limit=5").await;
    let client = s.layer().layer(s.api.clone());
    client.oneshot(Request::post(API).body("x".to_owned()).unwrap()).await.unwrap();
    let [first, second] = s.api.seen().try_into().ok().unwrap();
    assert_eq!(first.header("authorization"), Some("DPoP token-1"));
    assert_eq!(first.claim("htm"), Some("GET"));
    assert_eq!(first.claim("htu"), Some("https://api.example/orders/7"));
    assert_eq!(first.claim("ath"), Some(&*hash("token-1")));
    assert_eq!(second.claim("htm"), Some("POST"));
    assert_eq!(second.claim("htu"), Some("https://api.example/"));
    assert_ne!(first.claim("jti"), second.claim("jti"));
    let token_request = &s.issuer.seen()[0];
    assert_eq!(first.proof.as_ref().unwrap().0, token_request.proof.as_ref().unwrap().0);
}

#[tokio::test(start_paused = true)]
async fn dpo_08_a_nonce_is_sent_once_asked_for_without_another_token() {
    let s = Setup::new(|seen, _| with_nonce(seen, "n1")).await;
    let response = s.get(API).await;
    assert_eq!(response.status(), StatusCode::OK);
    let [first, second] = s.api.seen().try_into().ok().unwrap();
    assert_ne!(first.claim("jti"), second.claim("jti"));
    assert_eq!(first.header("authorization"), second.header("authorization"));
    assert_eq!(s.issuer.count(), 1);
    // It is remembered.
    assert_eq!(s.get(API).await.status(), StatusCode::OK);
    assert_eq!((s.api.count(), s.issuer.count()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn dpo_08_a_token_that_is_refused_after_the_nonce_is_replaced_once() {
    let s = Setup::new(|seen, _| match seen.claim("nonce") {
        None => with_nonce(seen, "n1"),
        Some(_) => answer(401, &[("www-authenticate", INVALID), ("dpop-nonce", "n1")], ""),
    })
    .await;
    tokio::time::advance(Duration::from_secs(20)).await;
    let response = s.get(API).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!((s.api.count(), s.issuer.count()), (3, 2));
    assert_eq!(s.api.seen()[2].header("authorization"), Some("DPoP token-2"));
    assert_eq!(s.api.seen()[2].claim("ath"), Some(&*hash("token-2")));
}

#[tokio::test(start_paused = true)]
async fn dpo_08_a_nonce_that_is_wanted_after_another_token_is_sent_too() {
    let s = Setup::new(|seen, _| match seen.header("authorization") {
        Some("DPoP token-1") => answer(401, &[("www-authenticate", INVALID)], ""),
        _ => with_nonce(seen, "n1"),
    })
    .await;
    let response = s.get(API).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!((s.api.count(), s.issuer.count()), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn dpo_08_a_request_that_is_not_kept_leaves_its_nonce_to_the_next_one() {
    let s = Setup::new(|seen, _| with_nonce(seen, "n1")).await;
    let client = s.layer().layer(s.api.clone());
    let first = client.clone().oneshot(get(API)).await.unwrap();
    assert_eq!(first.status(), StatusCode::UNAUTHORIZED);
    let second = client.oneshot(get(API)).await.unwrap();
    assert_eq!(second.status(), StatusCode::OK);
    assert_eq!((s.api.count(), s.issuer.count()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn dpo_08_a_streaming_body_is_sent_three_times_in_full() {
    let s = Setup::new(|seen, _| match (seen.claim("nonce"), seen.header("authorization")) {
        (None, _) => with_nonce(seen, "n1"),
        (_, Some("DPoP token-1")) => answer(401, &[("www-authenticate", INVALID)], ""),
        _ => answer(200, &[], "hello"),
    })
    .await;
    let frames = ["one", "two", "three"].map(|text| {
        Ok::<_, std::convert::Infallible>(http_body::Frame::data(Bytes::from_static(
            text.as_bytes(),
        )))
    });
    let request = Request::post(API).body(StreamBody::new(tokio_stream::iter(frames))).unwrap();
    let client = s.layer().replay(Buffered::up_to(1024)).layer(s.api.clone());
    let response = client.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let bodies: Vec<_> = s.api.seen().iter().map(|seen| seen.body.clone()).collect();
    assert_eq!(bodies, ["onetwothree"; 3]);
}

#[tokio::test(start_paused = true)]
async fn dpo_09_a_nonce_on_a_success_is_the_next_one_of_that_server() {
    let s = Setup::new(|seen, before| {
        let expected = match seen.uri.host() {
            Some("api.example") => (before > 0).then(|| format!("n{before}")),
            _ => None,
        };
        assert_eq!(seen.claim("nonce"), expected.as_deref(), "{}", seen.uri);
        let nonce = format!("n{}", before + 1);
        answer(200, &[("dpop-nonce", &nonce)], "")
    })
    .await;
    let origins = Origins::new([API, "https://other.example", "https://api.example:8443"]).unwrap();
    let client = OAuthLayer::new(s.tokens.clone(), origins).layer(s.api.clone());
    for _ in 0..3 {
        client.clone().oneshot(get(API)).await.unwrap();
    }
    client.oneshot(get("https://other.example")).await.unwrap();
    // The authorization server was never shown any of them.
    let again = s.tokens.refresh().await.unwrap();
    assert_eq!(again.epoch(), 2);
    assert!(s.issuer.seen().iter().all(|seen| seen.claim("nonce").is_none()));
}

#[tokio::test(start_paused = true)]
async fn dpo_10_an_api_that_always_wants_another_nonce_gets_two_requests() {
    for status in [400, 401] {
        let s = Setup::new(move |_, before| {
            let nonce = format!("n{before}");
            answer(status, &[("www-authenticate", WANTS_NONCE), ("dpop-nonce", &nonce)], "")
        })
        .await;
        assert_eq!(s.get(API).await.status(), status);
        assert_eq!((s.api.count(), s.issuer.count()), (2, 1));
    }
    for fields in [
        &[("www-authenticate", WANTS_NONCE)][..],
        &[("www-authenticate", WANTS_NONCE), ("dpop-nonce", "a\"b")],
    ] {
        let s = Setup::new(move |_, _| answer(401, fields, "")).await;
        assert_eq!(s.get(API).await.status(), 401);
        assert_eq!((s.api.count(), s.issuer.count()), (1, 1), "{fields:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn dpo_11_a_bearer_challenge_makes_no_bearer_token_of_a_bound_one() {
    let s = Setup::new(|_, _| answer(401, &[("www-authenticate", "Bearer")], "")).await;
    assert_eq!(s.get(API).await.status(), StatusCode::UNAUTHORIZED);
    let [seen] = s.api.seen().try_into().ok().expect("one request");
    assert!(seen.header("authorization").unwrap().starts_with("DPoP "));
    assert_eq!(s.issuer.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn dpo_13_f54_an_api_with_another_clock_gets_proofs_by_its_own() {
    let server_time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    let ours = tower_oauth::time::SystemClock::new();
    let ahead = server_time
        .duration_since(tower_oauth::time::Clock::now(&ours).wall)
        .expect("this test is for before 2033")
        .as_secs();
    // A day is the most that is believed.
    let ahead = ahead.min(80_000);
    let s = Setup::new(move |seen, _| {
        let now = tower_oauth::time::Clock::now(&ours).wall + Duration::from_secs(ahead);
        let date = httpdate::fmt_http_date(now);
        let now = now.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs();
        if seen.claims()["iat"].as_u64().unwrap().abs_diff(now) < 60 {
            return answer(200, &[], "hello");
        }
        let invalid = r#"Bearer realm="api", DPoP error="invalid_dpop_proof", algs="ES256""#;
        answer(400, &[("www-authenticate", invalid), ("date", &date)], "")
    })
    .await;
    assert_eq!(s.get(API).await.status(), StatusCode::OK);
    assert_eq!(s.get(API).await.status(), StatusCode::OK);
    assert_eq!((s.api.count(), s.issuer.count()), (3, 1));

    let s = Setup::new(|_, _| {
        answer(401, &[("www-authenticate", r#"DPoP error="invalid_dpop_proof""#)], "")
    })
    .await;
    assert_eq!(s.get(API).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!((s.api.count(), s.issuer.count()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn dpo_02_inj_05_every_attempt_of_a_retry_has_a_proof_of_its_own() {
    let s = Setup::new(|_, before| answer(if before < 2 { 503 } else { 200 }, &[], "")).await;
    let mut client = s.layer().layer(s.api.clone());
    loop {
        let service = ServiceExt::<Request<String>>::ready(&mut client).await.unwrap();
        if service.call(get(API)).await.unwrap().status() == StatusCode::OK {
            break;
        }
    }
    let seen = s.api.seen();
    let ids: std::collections::HashSet<_> = seen.iter().map(|s| s.claim("jti").unwrap()).collect();
    assert_eq!((seen.len(), ids.len()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn dpo_03_a_path_alone_is_at_the_one_origin_or_an_error() {
    let s = Setup::new(ok).await;
    s.layer().layer(s.api.clone()).oneshot(get("/a/b?c")).await.unwrap();
    assert_eq!(s.api.seen()[0].claim("htu"), Some("https://api.example/a/b"));
    for origins in
        [Origins::new([API, "https://other.example"]).unwrap(), Origins::danger_any_origin()]
    {
        let client = OAuthLayer::new(s.tokens.clone(), origins).layer(s.api.clone());
        let error: BoxError = client.oneshot(get("/a")).await.unwrap_err();
        assert_eq!(Error::find(&*error).unwrap().kind(), ErrorKind::Origin);
    }
    assert_eq!(s.api.count(), 1, "nothing is sent without a proof");
}

/// A client below may have followed a redirect.
#[cfg(feature = "reqwest")]
#[tokio::test(start_paused = true)]
async fn dpo_09_a_nonce_of_another_server_is_not_sent_to_the_api() {
    use reqwest::ResponseBuilderExt;

    let s = Setup::new(ok).await;
    let answers = ["https://other.example/login", "https://api.example/a", "https://api.example/a"];
    let (seen, calls) = (Arc::new(Mutex::new(Vec::new())), AtomicUsize::new(0));
    let below = {
        let (seen, calls) = (seen.clone(), Arc::new(calls));
        tower::service_fn(move |request: reqwest::Request| {
            let proof = verified(request.headers()["dpop"].to_str().unwrap()).1;
            seen.lock().unwrap().push(proof["nonce"].as_str().map(str::to_owned));
            let call = calls.fetch_add(1, Ordering::Relaxed);
            let response = Response::builder()
                .header("dpop-nonce", format!("n{call}"))
                .url(answers[call].parse().unwrap());
            async move { Ok::<_, BoxError>(reqwest::Response::from(response.body("").unwrap())) }
        })
    };
    let client = s.layer().layer(below);
    for _ in 0..3 {
        let request = reqwest::Request::new(Method::GET, API.parse().unwrap());
        client.clone().oneshot(request).await.unwrap();
    }
    assert_eq!(*seen.lock().unwrap(), [None, None, Some("n1".to_owned())]);
}

/// As an unbound one: nothing waits for the future to be polled, and the ready service is used.
#[tokio::test(start_paused = true)]
async fn a_tenants_bound_token_at_hand_is_sent_without_waiting() {
    let issuer = honest();
    let server = issuer.clone();
    let pool = TokenPool::builder(move |_: &u8| client_credentials(&server, &key())).spawn();
    pool.token(&1).await.unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let below = {
        let sent = sent.clone();
        tower::service_fn(move |request: Request<String>| {
            assert!(request.headers().contains_key("dpop"));
            sent.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, BoxError>(Response::new(String::new())) }
        })
    };
    let layer = OAuthLayer::keyed(pool, API.parse().unwrap(), |_: &Request<String>| Some(1_u8));
    let mut client = layer.layer(below);
    let response = ServiceExt::<Request<String>>::ready(&mut client).await.unwrap().call(get(API));
    assert_eq!(sent.load(Ordering::Relaxed), 1);
    response.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn inj_04_a_foreign_origin_sees_neither_token_nor_proof() {
    let s = Setup::new(ok).await;
    s.get("https://evil.example/a").await;
    let [seen] = s.api.seen().try_into().ok().unwrap();
    assert!(seen.proof.is_none() && seen.header("authorization").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_its_token_has_a_proof_too() {
    let (issuer, api) = (honest(), Server::new(|seen, _| with_nonce(seen, "n1")));
    let tokens = TokenHandle::spawn(client_credentials(&issuer, &key()));
    let layer = OAuthLayer::new(tokens, API.parse().unwrap()).replay(CloneRequest);
    let response = layer.layer(api.clone()).oneshot(get(API)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!((api.count(), issuer.count()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn each_tenant_proves_its_own_key() {
    let (issuer, api) = (honest(), Server::new(ok));
    let keys = [key(), key()];
    let (server, sources) = (issuer.clone(), keys.clone());
    let pool =
        TokenPool::builder(move |tenant: &usize| client_credentials(&server, &sources[*tenant]))
            .spawn();
    let layer = OAuthLayer::keyed(pool, API.parse().unwrap(), |request: &Request<Full<Bytes>>| {
        request.uri().path().trim_start_matches('/').parse().ok()
    });
    let client = layer.layer(api.clone());
    for tenant in [0, 1, 0, 1] {
        let request = Request::get(format!("{API}/{tenant}")).body(Full::default()).unwrap();
        client.clone().oneshot(request).await.unwrap();
    }
    let thumbprint = |seen: &Seen| {
        let jwk = &seen.proof.as_ref().unwrap().0["jwk"];
        hash(&format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, jwk["x"], jwk["y"]))
    };
    let proved: Vec<_> = api.seen().iter().map(thumbprint).collect();
    let expected = [0, 1, 0, 1].map(|tenant: usize| keys[tenant].thumbprint());
    assert_eq!(proved, expected);
    assert_eq!(issuer.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_makes_proofs_for_what_is_not_behind_the_layer() {
    let s = Setup::new(ok).await;
    let token = s.tokens.token().await.unwrap();
    let uri = "wss://api.example/stream?a".parse().unwrap();
    let proof = token.dpop_proof(&Method::GET, &uri).unwrap().unwrap();
    let (_, claims) = verified(proof.to_str().unwrap());
    assert_eq!(claims["htu"], "wss://api.example/stream");
    assert_eq!(claims["ath"], hash("token-1"));
    assert!(token.dpop_proof(&Method::GET, &"/stream".parse().unwrap()).is_err());
}
