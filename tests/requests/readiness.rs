//! A replay that waits for the service below, or fails: the refusal is the answer.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use http::{Request, Response, StatusCode};
use tokio::{
    task::yield_now,
    time::{Instant, sleep, timeout},
};
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt, buffer::BufferLayer, hedge::Hedge,
    limit::ConcurrencyLimitLayer, reconnect::Reconnect, service_fn,
};
use tower_layer::Layer;
use tower_oauth::{CloneRequest, TokenHandle};

use super::{API, HOUR, get, layer, millis, secs, send};
use crate::common::{api::Api, script::Script};

async fn tokens() -> TokenHandle {
    let tokens = TokenHandle::spawn(Script::tokens(HOUR));
    tokens.ready().await.unwrap();
    tokens
}

fn refusal() -> Response<String> {
    let mut response = Response::new(String::from("refused"));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let challenge = http::HeaderValue::from_static(r#"Bearer error="invalid_token""#);
    response.headers_mut().insert("www-authenticate", challenge);
    response
}

/// Refuses the first request. From then on it is not ready, or fails.
#[derive(Clone, Copy)]
enum After {
    NeverReady,
    FailsToBeReady,
    FailsToAnswer,
}

#[derive(Clone)]
struct Fading {
    after: After,
    refused: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Fading {
    fn new(after: After) -> Self {
        Self { after, refused: std::sync::Arc::default() }
    }
}

impl Service<Request<String>> for Fading {
    type Response = Response<String>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Response<String>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.after {
            _ if !self.refused.load(std::sync::atomic::Ordering::Relaxed) => Poll::Ready(Ok(())),
            After::NeverReady => Poll::Pending,
            After::FailsToBeReady => Poll::Ready(Err("the service is gone".into())),
            After::FailsToAnswer => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, _: Request<String>) -> Self::Future {
        let before = self.refused.swap(true, std::sync::atomic::Ordering::Relaxed);
        std::future::ready(if before { Err("connection reset".into()) } else { Ok(refusal()) })
    }
}

#[tokio::test(start_paused = true)]
async fn f107_f109_whatever_happens_after_a_refusal_the_refusal_is_the_answer() {
    for (after, takes) in [
        (After::NeverReady, secs(30)),
        (After::FailsToBeReady, secs(0)),
        (After::FailsToAnswer, secs(0)),
    ] {
        let client = layer(&tokens().await).replay(CloneRequest).layer(Fading::new(after));
        let started = Instant::now();
        let response = send(&client, get(API)).await.unwrap();
        assert_eq!(response.status(), 401);
        assert_eq!(response.body(), "refused");
        // The next token is fetched half a second after the last one.
        assert!((takes..takes + secs(1)).contains(&started.elapsed()), "{:?}", started.elapsed());
    }
}

/// A body of HTTP/1.1 that is long or has no length may be what the connection is busy with: it is
/// given up after a second, and so is the refusal.
#[tokio::test(start_paused = true)]
async fn f107_a_refusal_whose_body_may_hold_the_connection_is_given_up() {
    let started = Instant::now();
    let chunked = |mut response: Response<String>| {
        response.headers_mut().insert("transfer-encoding", "chunked".parse().unwrap());
        response
    };
    let fading = Fading::new(After::NeverReady).map_response(chunked);
    let client = layer(&tokens().await).replay(CloneRequest).layer(fading);
    let error = send(&client, get(API)).await.unwrap_err();
    assert_eq!(super::kind(&error), tower_oauth::ErrorKind::Timeout);
    assert_eq!(started.elapsed(), secs(30));
    // On HTTP/2 no body holds the connection.
    let fading = Fading::new(After::NeverReady).map_response(move |response| {
        let mut response = chunked(response);
        *response.version_mut() = http::Version::HTTP_2;
        response
    });
    let client = layer(&tokens().await).replay(CloneRequest).layer(fading);
    assert_eq!(send(&client, get(API)).await.unwrap().status(), 401);
}

/// A buffer above and a limit of one below: the refused request waits for its own replay's place
/// behind another caller, which goes away.
#[tokio::test(start_paused = true)]
async fn f107_a_replay_behind_a_full_limit_ends() {
    let tokens = tokens().await;
    let api = Api::new();
    api.accept(|token| token == "Bearer token-2").delay(millis(10));
    let client = ServiceBuilder::new()
        .layer(BufferLayer::<Request<String>>::new(8))
        .layer(layer(&tokens).replay(CloneRequest))
        .layer(ConcurrencyLimitLayer::new(1))
        .service(api.clone());
    let first = tokio::spawn(client.clone().oneshot(get(API)));
    yield_now().await;
    let second = timeout(millis(5), client.clone().oneshot(get(API)));
    assert!(second.await.is_err(), "it gives up while it is queued");
    let outcome = timeout(secs(31), first).await.expect("it does not hang").unwrap();
    let status = outcome.unwrap().status();
    assert!([200, 401].contains(&status.as_u16()), "{status}");
    // And the places are free again.
    let third = timeout(secs(31), client.oneshot(get(API))).await.expect("it does not hang");
    assert_eq!(third.unwrap().status(), 200);
}

/// Many callers, of which some go away at every moment, never leave the stack without a place.
#[tokio::test(start_paused = true)]
async fn f107_callers_that_go_away_leave_their_places() {
    let tokens = tokens().await;
    let api = Api::new();
    let refuse = std::sync::atomic::AtomicUsize::new(0);
    api.accept(move |_| {
        !refuse.fetch_add(1, std::sync::atomic::Ordering::Relaxed).is_multiple_of(3)
    });
    api.delay(millis(10));
    let client = ServiceBuilder::new()
        .layer(BufferLayer::<Request<String>>::new(4))
        .layer(layer(&tokens).replay(CloneRequest))
        .layer(ConcurrencyLimitLayer::new(1))
        .service(api.clone());
    for round in 0..200u64 {
        let patience = millis(round % 37);
        let waits = [patience, patience * 2, patience / 2]
            .map(|patience| tokio::spawn(timeout(patience, client.clone().oneshot(get(API)))));
        for wait in waits {
            let _ = wait.await.unwrap();
        }
    }
    let last = timeout(secs(61), client.oneshot(get(API))).await.expect("it does not hang");
    last.unwrap();
}

#[derive(Clone)]
struct HedgePolicy;

impl tower::hedge::Policy<Request<String>> for HedgePolicy {
    fn clone_request(&self, request: &Request<String>) -> Option<Request<String>> {
        Some(request.clone())
    }

    fn can_retry(&self, _: &Request<String>) -> bool {
        true
    }
}

/// A hedge above, and below a connection that is made anew each time it breaks, behind a buffer.
#[tokio::test(start_paused = true)]
async fn f107_a_replay_under_a_hedge_over_a_connection_that_breaks_ends() {
    for breaks in [0, 2, 3, 5] {
        let tokens = tokens().await;
        let api = Api::new();
        let refuse = std::sync::atomic::AtomicUsize::new(0);
        api.accept(move |_| {
            !refuse.fetch_add(1, std::sync::atomic::Ordering::Relaxed).is_multiple_of(3)
        });
        api.delay(millis(20));
        let connect = service_fn({
            let api = api.clone();
            move |(): ()| {
                let api = api.clone();
                Box::pin(async move {
                    sleep(millis(5)).await;
                    Ok::<_, Infallible>(Breaking { api, left: breaks, dead: false })
                })
            }
        });
        let below = ServiceBuilder::new()
            .layer(BufferLayer::<Request<String>>::new(4))
            .service(Reconnect::new(connect, ()));
        let oauth = layer(&tokens).replay(CloneRequest).layer(below);
        let client = ServiceBuilder::new()
            .layer(BufferLayer::<Request<String>>::new(4))
            .service(Hedge::new(oauth, HedgePolicy, 1, 0.9, secs(1)));
        for round in 0..50 {
            let request = timeout(secs(61), client.clone().oneshot(get(API)));
            let outcome = request.await;
            assert!(outcome.is_ok(), "hangs: round {round}, breaks after {breaks}");
        }
    }
}

/// A connection that breaks after so many requests; never, for 0.
struct Breaking {
    api: Api,
    left: usize,
    dead: bool,
}

impl Service<Request<String>> for Breaking {
    type Response = Response<String>;
    type Error = BoxError;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Response<String>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.dead {
            return Poll::Ready(Err("the connection broke".into()));
        }
        let ready = Service::<Request<String>>::poll_ready(&mut self.api, cx);
        ready.map_err(|never| match never {})
    }

    fn call(&mut self, request: Request<String>) -> Self::Future {
        if self.left > 0 {
            self.left -= 1;
            self.dead = self.left == 0;
        }
        let response = self.api.call(request);
        Box::pin(async move { response.await.map_err(|never| match never {}) })
    }
}
