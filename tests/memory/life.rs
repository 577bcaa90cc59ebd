//! A life of tokens, after which nothing of it is left.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};
use tower_oauth::{
    ClientAuth, CloneRequest, OAuthLayer, RefreshToken, Secret, SecretSource, TokenHandle,
    TokenSource, Transport,
};

use crate::scan::{Canary, counts};

/// A token response, in memory of its exact size.
fn answer(access: &Canary, refresh: &Canary) -> Response<Full<Bytes>> {
    let mut body = String::with_capacity(1024);
    body.push_str(r#"{"token_type":"Bearer","expires_in":3600,"access_token":""#);
    access.write_to(&mut body);
    body.push_str(r#"","refresh_token":""#);
    refresh.write_to(&mut body);
    body.push_str(r#""}"#);
    Response::new(Full::new(Bytes::from(body.into_bytes())))
}

/// An authorization server that gives these tokens, without keeping anything.
pub(crate) fn transport(tokens: &'static [(Canary, Canary)]) -> Transport {
    let answered = Arc::new(AtomicUsize::new(0));
    Transport::new::<_, Full<Bytes>, _>(service_fn(move |request: Request<Full<Bytes>>| {
        drop(request);
        let (access, refresh) = &tokens[answered.fetch_add(1, Ordering::Relaxed)];
        async move { Ok::<_, Infallible>(answer(access, refresh)) }
    }))
}

pub(crate) fn assert_absent(canaries: &[&Canary]) {
    for (count, canary) in counts(canaries).into_iter().zip(canaries) {
        assert_eq!(count, 0, "the {} is still in memory", canary.name);
    }
}

/// Fetches, sends a request, renews, and ends.
pub(crate) async fn live(source: impl TokenSource, held: &[&Canary]) {
    let tokens = TokenHandle::spawn(source);
    tokens.ready().await.unwrap();
    let api = service_fn(|request: Request<String>| async move {
        assert!(request.headers()["authorization"].is_sensitive());
        Ok::<_, Infallible>(Response::new(()))
    });
    let origins = "https://api.example".parse().unwrap();
    let client = OAuthLayer::new(tokens.clone(), origins).replay(CloneRequest).layer(api);
    for _ in 0..2 {
        let request = Request::get("https://api.example/").body(String::new()).unwrap();
        client.clone().oneshot(request).await.unwrap();
        tokens.refresh().await.unwrap();
    }
    for (count, canary) in counts(held).into_iter().zip(held) {
        assert!(count > 0, "the {} was never there", canary.name);
    }
    tokens.shutdown().await;
    drop((client, tokens));
    // The refresher ends by itself.
    tokio::time::sleep(Duration::from_millis(50)).await;
}

pub(crate) fn tokens() -> &'static [(Canary, Canary)] {
    let pair = |_| (Canary::new("access token"), Canary::new("refresh token"));
    Vec::leak((0..3).map(pair).collect())
}

#[tokio::test]
async fn log_02_f58_secrets_and_tokens_are_wiped() {
    for in_header in [true, false] {
        let secret = Canary::new("client secret");
        let initial = Canary::new("initial refresh token");
        let given = tokens();
        let auth = if in_header {
            ClientAuth::basic("orders", Secret::from(secret.reveal()))
        } else {
            ClientAuth::post("orders", Secret::from(secret.reveal()))
        };
        let source = RefreshToken::builder(
            "https://as.example/token",
            auth,
            SecretSource::literal(initial.reveal()),
        )
        .transport(transport(given))
        .build()
        .unwrap();
        let (access, refresh) = given.last().unwrap();
        live(source, &[&secret, &initial, access, refresh]).await;
        let all = given.iter().flat_map(|(access, refresh)| [access, refresh]);
        assert_absent(&all.chain([&secret, &initial]).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn log_02_f58_what_a_server_repeats_in_an_error_is_wiped() {
    let secret = Canary::new("client secret");
    let source = RefreshToken::builder(
        "https://as.example/token",
        ClientAuth::post("orders", Secret::from(secret.reveal())),
        "initial",
    );
    let transport =
        Transport::new::<_, Full<Bytes>, _>(service_fn(|_: Request<Full<Bytes>>| async {
            let body = r#"{"error":"invalid_grant","error_description":"no"}"#;
            let answer = Response::builder().status(400);
            Ok::<_, Infallible>(
                answer.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap(),
            )
        }));
    let source = source.transport(transport).build().unwrap();
    let error = source.fetch(tower_oauth::FetchContext::first()).await.unwrap_err();
    assert!(secret.count() > 0);
    drop(source);
    assert_eq!(secret.count(), 0, "{error}");
}

#[tokio::test]
async fn log_02_f58_a_file_is_wiped_after_each_reading() {
    let secret = Canary::new("secret in a file");
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("memory-secret");
    {
        let text = Secret::from(secret.reveal());
        std::fs::write(&path, text.expose()).unwrap();
    }
    let source = SecretSource::file(&path);
    let read = source.read().await.unwrap();
    assert!(secret.count() > 0);
    drop(read);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(secret.count(), 0);
}
