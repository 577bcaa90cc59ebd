//! Stacks: the layer above and below tower's own layers.
#![cfg(test)]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]

use log_watch as _;

mod common;

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use common::{
    api::Api,
    script::{Script, Step, fail},
};
use http::{Request, Response, StatusCode, Uri, header};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::sleep,
};
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt,
    buffer::BufferLayer,
    limit::{ConcurrencyLimit, ConcurrencyLimitLayer},
    load_shed::LoadShedLayer,
    retry::{Policy, RetryLayer},
    steer::Steer,
    timeout::TimeoutLayer,
    util::BoxCloneService,
};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_oauth::{CloneRequest, Error, ErrorKind, OAuthLayer, Origins, TokenHandle};
use tower_test::mock;

const HOUR: Duration = Duration::from_secs(3600);
const URL: &str = "https://api.example/a";

type Client = BoxCloneService<Request<String>, Response<String>, BoxError>;

async fn tokens(source: &Script) -> TokenHandle {
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    tokens
}

fn layer(tokens: &TokenHandle) -> OAuthLayer<CloneRequest> {
    OAuthLayer::new(tokens.clone(), "https://api.example".parse().unwrap()).replay(CloneRequest)
}

fn get() -> Request<String> {
    Request::get(URL).body(String::new()).unwrap()
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

/// Every layer of tower above and below, each stack with a request that is refused once.
#[tokio::test(start_paused = true)]
async fn f23_each_stack_keeps_readiness_and_replays_a_refusal() {
    type Build = fn(OAuthLayer<CloneRequest>, Api) -> Client;
    let stacks: &[(&str, Build)] = &[
        ("nothing", |oauth, api| ServiceBuilder::new().layer(oauth).service(api).boxed_clone()),
        ("retry above", |oauth, api| {
            let retry = RetryLayer::new(OnUnavailable(3));
            ServiceBuilder::new().layer(retry).layer(oauth).service(api).boxed_clone()
        }),
        ("retry below", |oauth, api| {
            let retry = RetryLayer::new(OnUnavailable(3));
            ServiceBuilder::new().layer(oauth).layer(retry).service(api).boxed_clone()
        }),
        ("timeout above", |oauth, api| {
            let timeout = TimeoutLayer::new(Duration::from_secs(60));
            ServiceBuilder::new().layer(timeout).layer(oauth).service(api).boxed_clone()
        }),
        ("timeout below", |oauth, api| {
            let timeout = TimeoutLayer::new(Duration::from_secs(60));
            ServiceBuilder::new().layer(oauth).layer(timeout).service(api).boxed_clone()
        }),
        ("buffer above", |oauth, api| {
            let buffer = BufferLayer::<Request<String>>::new(8);
            ServiceBuilder::new().layer(buffer).layer(oauth).service(api).boxed_clone()
        }),
        ("buffer below", |oauth, api| {
            let buffer = BufferLayer::<Request<String>>::new(8);
            ServiceBuilder::new().layer(oauth).layer(buffer).service(api).boxed_clone()
        }),
        ("one at a time above", |oauth, api| {
            let limit = ConcurrencyLimitLayer::new(1);
            let stack = ServiceBuilder::new().layer(limit).layer(oauth).service(api);
            stack.boxed_clone()
        }),
        ("one at a time below", |oauth, api| {
            let limit = ConcurrencyLimitLayer::new(1);
            let stack = ServiceBuilder::new().layer(oauth).layer(limit).service(api);
            stack.boxed_clone()
        }),
        ("load shed above", |oauth, api| {
            let shed = LoadShedLayer::new();
            ServiceBuilder::new().layer(shed).layer(oauth).service(api).boxed_clone()
        }),
        ("load shed below", |oauth, api| {
            let shed = LoadShedLayer::new();
            ServiceBuilder::new().layer(oauth).layer(shed).service(api).boxed_clone()
        }),
        ("redirects above", |oauth, api| {
            let api = ServiceBuilder::new().layer(oauth).service(api);
            ServiceBuilder::new().layer(FollowRedirectLayer::new()).service(api).boxed_clone()
        }),
        ("redirects below", |oauth, api| {
            let api = ServiceBuilder::new().layer(FollowRedirectLayer::new()).service(api);
            ServiceBuilder::new().layer(oauth).service(api).boxed_clone()
        }),
    ];
    for (name, build) in stacks {
        let source = Script::tokens(HOUR);
        let api = Api::new();
        api.accept(|token| token == "Bearer token-2").delay(Duration::from_millis(10));
        let client = build(layer(&tokens(&source).await), api.clone());
        let mut requests = JoinSet::new();
        for _ in 0..20 {
            let client = client.clone();
            requests.spawn(async move { client.oneshot(get()).await.unwrap().status() });
        }
        let statuses = requests.join_all().await;
        assert!(statuses.iter().all(|status| *status == 200), "{name}: {statuses:?}");
        assert_eq!(source.count(), 2, "{name}");
        assert!(api.count() <= 40, "{name}: {}", api.count());
    }
}

#[tokio::test(start_paused = true)]
async fn inj_05_each_attempt_of_a_retry_above_carries_the_token_of_that_moment() {
    let source = Script::tokens(HOUR);
    let tokens = tokens(&source).await;
    let api = Api::new();
    api.accept(|token| token == "Bearer token-3").refuse_with(503, &[]);
    let renewing = {
        let tokens = tokens.clone();
        tower::layer::layer_fn(move |inner: Api| {
            let tokens = tokens.clone();
            tower::service_fn(move |request: Request<String>| {
                let (tokens, inner) = (tokens.clone(), inner.clone());
                async move {
                    let response = inner.oneshot(request).await;
                    tokens.refresh().await.unwrap();
                    response
                }
            })
        })
    };
    let client = ServiceBuilder::new()
        .layer(RetryLayer::new(OnUnavailable(3)))
        .layer(layer(&tokens))
        .layer(renewing)
        .service(api.clone());
    assert_eq!(client.oneshot(get()).await.unwrap().status(), 200);
    let sent: Vec<_> =
        api.seen().iter().map(|seen| seen.authorization().unwrap().to_owned()).collect();
    assert_eq!(sent, ["Bearer token-1", "Bearer token-2", "Bearer token-3"]);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_above_bounds_the_wait_for_a_token() {
    let source = Script::new(Step::Hang);
    let tokens = TokenHandle::spawn(source);
    let client = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(2)))
        .layer(layer(&tokens))
        .service(Api::new());
    let start = tokio::time::Instant::now();
    let error = client.oneshot(get()).await.unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>());
    assert_eq!(start.elapsed(), Duration::from_secs(2));
}

/// An error from `poll_ready` would close a buffer for good: a token problem is never one.
#[tokio::test(start_paused = true)]
async fn a_buffer_above_outlives_token_failures() {
    let source = Script::new(fail(ErrorKind::InvalidClient));
    let tokens = TokenHandle::spawn(source.clone());
    let client = ServiceBuilder::new()
        .layer(BufferLayer::<Request<String>>::new(8))
        .layer(layer(&tokens))
        .service(Api::new());
    for _ in 0..3 {
        let error = client.clone().oneshot(get()).await.unwrap_err();
        assert_eq!(Error::find(&*error).unwrap().kind(), ErrorKind::InvalidClient);
    }
    source.otherwise(Step::Token(HOUR));
    tokens.refresh().await.unwrap();
    assert_eq!(client.oneshot(get()).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn f23_readiness_is_the_inner_services_and_each_call_follows_one() {
    let source = Script::tokens(HOUR);
    let tokens = tokens(&source).await;
    let (mock, mut handle) = mock::pair::<Request<String>, Response<String>>();
    let mut client = ServiceBuilder::new().layer(layer(&tokens)).service(mock);

    // Not ready below: not ready here.
    handle.allow(0);
    let mut task = tokio_test::task::spawn(());
    task.enter(|cx, _| assert!(client.poll_ready(cx).is_pending()));
    handle.allow(1);
    client.ready().await.unwrap();
    let mut response = tokio_test::task::spawn(client.call(get()));
    assert!(response.poll().is_pending());
    let (request, answer) = handle.next_request().await.unwrap();
    assert_eq!(request.headers()[header::AUTHORIZATION], "Bearer token-1");

    // Refused: the replay asks for readiness again, and is not sent before it is given.
    let refusal = Response::builder()
        .status(StatusCode::UNAUTHORIZED)
        .header(header::WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#);
    answer.send_response(refusal.body(String::new()).unwrap());
    for _ in 0..5 {
        assert!(response.poll().is_pending());
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(source.count(), 2);
    handle.allow(1);
    assert!(response.poll().is_pending());
    let (request, answer) = handle.next_request().await.unwrap();
    assert_eq!(request.headers()[header::AUTHORIZATION], "Bearer token-2");
    answer.send_response(Response::new("done".to_owned()));
    assert_eq!(response.await.unwrap().into_body(), "done");
}

#[tokio::test(start_paused = true)]
async fn f23_an_error_of_readiness_passes_through() {
    let source = Script::tokens(HOUR);
    let tokens = tokens(&source).await;
    let (mock, mut handle) = mock::pair::<String, String>();
    let client = ServiceBuilder::new()
        .map_request(|request: Request<String>| request.into_body())
        .map_response(Response::new)
        .service(mock);
    let mut client = ServiceBuilder::new().layer(layer(&tokens)).service(client);
    handle.send_error("closed");
    let error = client.ready().await.map(drop).unwrap_err();
    assert_eq!(error.to_string(), "closed");
    assert!(Error::find(&*error).is_none());
}

fn pick(request: &Request<String>, _: &[ConcurrencyLimit<Api>]) -> usize {
    usize::from(request.uri().path() == "/1")
}

/// What the documentation says of tower's `Steer`: why a buffer has to be below the layer.
#[tokio::test(start_paused = true)]
async fn a_clone_of_a_ready_steer_claims_to_be_ready_and_its_services_are_not() {
    let mut steer = Steer::new([ConcurrencyLimit::new(Api::new(), 2)], pick);
    let mut clone = steer.ready().await.unwrap().clone();
    clone.ready().await.unwrap();
    let called = std::panic::AssertUnwindSafe(|| drop(clone.call(get())));
    std::panic::catch_unwind(called).unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_steer_behind_a_buffer_survives_a_wait_for_the_token_and_a_replay() {
    let source = Script::new(Step::Take(Duration::from_secs(1), Box::new(Step::Token(HOUR))));
    let tokens = TokenHandle::spawn(source.clone());
    let apis = [Api::new(), Api::new()];
    apis[1].accept(|token| token == "Bearer token-2");
    let limited = apis.clone().map(|api| ConcurrencyLimit::new(api, 2));
    let client = ServiceBuilder::new()
        .layer(layer(&tokens))
        .buffer(8)
        .service(Steer::new(limited, pick))
        .boxed_clone();
    let mut requests = JoinSet::new();
    for number in 0..20 {
        let client = client.clone();
        let url = format!("https://api.example/{}", number % 2);
        let request = Request::get(url).body(String::new()).unwrap();
        requests.spawn(async move { client.oneshot(request).await.unwrap().status() });
    }
    assert!(requests.join_all().await.iter().all(|status| *status == 200));
    assert_eq!((source.count(), apis[0].count()), (2, 10));
}

/// A client with one connection, which a response holds until it is dropped.
#[derive(Clone)]
struct OneConnection {
    free: Arc<Semaphore>,
    connection: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Service<Request<String>> for OneConnection {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        let mut connection = self.connection.lock().unwrap();
        if connection.is_none() {
            let Ok(permit) = self.free.clone().try_acquire_owned() else {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            };
            *connection = Some(permit);
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let connection = self.connection.lock().unwrap().take().expect("it was polled ready");
        let mut response = Response::new(String::new());
        if request.headers()[header::AUTHORIZATION] == "Bearer token-1" {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            let challenge = r#"Bearer error="invalid_token""#.parse().unwrap();
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            // As a connection of HTTP/1.1 is, until the body was read.
            response.headers_mut().insert(header::TRANSFER_ENCODING, "chunked".parse().unwrap());
        }
        response.extensions_mut().insert(Arc::new(connection));
        ready(Ok(response))
    }
}

#[tokio::test]
async fn f20_a_refusal_gives_its_connection_back_before_the_replay_asks_for_one() {
    let source = Script::tokens(HOUR);
    let tokens = tokens(&source).await;
    let inner = OneConnection { free: Arc::new(Semaphore::new(1)), connection: Arc::default() };
    let client = ServiceBuilder::new().layer(layer(&tokens)).service(inner);
    let response = tokio::time::timeout(Duration::from_secs(10), client.oneshot(get()));
    assert_eq!(response.await.expect("it does not wait for itself").unwrap().status(), 200);
}

mod redirects {
    use super::*;

    /// Where a request went, and the token that it carried.
    type Hop = (Uri, Option<String>);

    /// A small internet: answers each URL with a redirect or with 200, and remembers what it got.
    #[derive(Clone)]
    struct Net {
        hops: Arc<Vec<(&'static str, u16, &'static str)>>,
        seen: Arc<Mutex<Vec<Hop>>>,
    }

    impl Net {
        fn new(hops: &[(&'static str, u16, &'static str)]) -> Self {
            Self { hops: Arc::new(hops.to_vec()), seen: Arc::default() }
        }
    }

    impl Service<Request<String>> for Net {
        type Response = Response<String>;
        type Error = Infallible;
        type Future = Ready<Result<Response<String>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<String>) -> Self::Future {
            let token = request.headers().get(header::AUTHORIZATION);
            let token = token.map(|token| token.to_str().unwrap().to_owned());
            assert!(!request.headers().contains_key("dpop"));
            let uri = request.uri().clone();
            self.seen.lock().unwrap().push((uri.clone(), token));
            let mut response = Response::new(String::new());
            let hop = self.hops.iter().find(|(from, ..)| uri == *from);
            if let Some((_, status, to)) = hop {
                *response.status_mut() = StatusCode::from_u16(*status).unwrap();
                response.headers_mut().insert(header::LOCATION, to.parse().unwrap());
            }
            ready(Ok(response))
        }
    }

    /// Chains of hops, and which of them may see the token.
    #[tokio::test(start_paused = true)]
    async fn inj_04_f21_a_redirect_carries_the_token_to_no_foreign_origin() {
        type Chain = (&'static [(&'static str, u16, &'static str)], &'static [bool]);
        let chains: &[Chain] = &[
            (&[("https://api.example/a", 302, "https://api.example/b")], &[true, true]),
            (&[("https://api.example/a", 307, "/b")], &[true, true]),
            (&[("https://api.example/a", 302, "https://evil.example/")], &[true, false]),
            (&[("https://api.example/a", 307, "https://evil.example/")], &[true, false]),
            (&[("https://api.example/a", 308, "//evil.example/x")], &[true, false]),
            (&[("https://api.example/a", 307, "https://api.example:8443/")], &[true, false]),
            (&[("https://api.example/a", 307, "http://api.example/")], &[true, false]),
            (
                &[
                    ("https://api.example/a", 307, "https://evil.example/"),
                    ("https://evil.example/", 307, "https://evil.example/two"),
                ],
                &[true, false, false],
            ),
        ];
        let source = Script::tokens(HOUR);
        let tokens = tokens(&source).await;
        for (hops, expected) in chains {
            let above = Net::new(hops);
            let client = ServiceBuilder::new().layer(layer(&tokens)).service(above.clone());
            let client = ServiceBuilder::new().layer(FollowRedirectLayer::new()).service(client);
            client.oneshot(get()).await.unwrap();

            let below = Net::new(hops);
            let client =
                ServiceBuilder::new().layer(FollowRedirectLayer::new()).service(below.clone());
            let client = ServiceBuilder::new().layer(layer(&tokens)).service(client);
            client.oneshot(get()).await.unwrap();

            for (order, net) in [("above", above), ("below", below)] {
                let seen = net.seen.lock().unwrap();
                let got: Vec<_> = seen.iter().map(|(_, token)| token.is_some()).collect();
                assert_eq!(&got, expected, "follower {order}: {hops:?}");
            }
        }
    }

    /// A follower above the layer comes back to an allowed origin: that hop gets the token again.
    #[tokio::test(start_paused = true)]
    async fn f21_each_hop_is_judged_by_itself() {
        let net = Net::new(&[
            ("https://api.example/a", 307, "https://evil.example/"),
            ("https://evil.example/", 307, "https://two.example/b"),
        ]);
        let source = Script::tokens(HOUR);
        let tokens = tokens(&source).await;
        let origins = Origins::new(["https://api.example", "https://two.example"]).unwrap();
        let client =
            ServiceBuilder::new().layer(OAuthLayer::new(tokens, origins)).service(net.clone());
        let client = ServiceBuilder::new().layer(FollowRedirectLayer::new()).service(client);
        client.oneshot(get()).await.unwrap();
        let seen = net.seen.lock().unwrap();
        let got: Vec<_> = seen.iter().map(|(_, token)| token.is_some()).collect();
        assert_eq!(got, [true, false, true]);
    }
}
