//! Replay of streaming bodies: what is kept, what is sent again, and what is not.
#![cfg(test)]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]

use log_watch as _;

mod common;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use common::{
    api::Api,
    script::{Script, Step},
};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::time::sleep;
use tokio_stream::StreamExt;
use tower::{ServiceBuilder, ServiceExt};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_oauth::{
    BoxError, Buffered, Idempotent, OAuthLayer, TokenHandle,
    middleware::{Replay, ReplayBody},
};

const HOUR: Duration = Duration::from_secs(3600);
const URL: &str = "https://api.example/a";

async fn tokens(source: &Script) -> TokenHandle {
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    tokens
}

/// A body that arrives piece by piece, and can be read once.
struct Chunks {
    frames: std::vec::IntoIter<Frame<Bytes>>,
    polled: Arc<AtomicUsize>,
}

/// A body of these pieces, and how often it was polled.
fn chunks(parts: &[&'static str], trailers: Option<HeaderMap>) -> (Chunks, Arc<AtomicUsize>) {
    let data = parts.iter().map(|part| Frame::data(Bytes::from_static(part.as_bytes())));
    let frames: Vec<_> = data.chain(trailers.map(Frame::trailers)).collect();
    let polled = Arc::new(AtomicUsize::new(0));
    (Chunks { frames: frames.into_iter(), polled: polled.clone() }, polled)
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.polled.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(self.frames.next().map(Ok))
    }
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("end"))])
}

async fn send(limit: usize, early: bool, accept: &'static str) -> (StatusCode, Api, usize) {
    let source = Script::tokens(HOUR);
    let tokens = tokens(&source).await;
    let api = Api::new();
    api.accept(move |token| token == accept);
    if early {
        api.refuse_early();
    }
    let layer = OAuthLayer::new(tokens, "https://api.example".parse().unwrap());
    let client =
        ServiceBuilder::new().layer(layer.replay(Buffered::up_to(limit))).service(api.clone());
    let (body, polled) = chunks(&["one ", "two ", "three"], Some(trailers()));
    let response = client.oneshot(Request::post(URL).body(body).unwrap()).await.unwrap();
    (response.status(), api, polled.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn rfr_11_a_streaming_body_is_sent_twice_and_read_once() {
    for early in [false, true] {
        let (status, api, polled) = send(1024, early, "Bearer token-2").await;
        assert_eq!(status, 200);
        let last = api.seen().pop().unwrap();
        assert_eq!(last.body, "one two three");
        assert_eq!(last.trailers, Some(trailers()));
        assert!(polled <= 5, "{polled}");
    }
}

#[tokio::test(start_paused = true)]
async fn f20_a_body_beyond_the_bound_is_sent_once_in_full() {
    let (status, api, _) = send(8, false, "Bearer token-2").await;
    assert_eq!(status, 401);
    let [seen] = api.seen().try_into().ok().unwrap();
    assert_eq!(seen.body, "one two three");
    // A refusal that came before the body was read leaves all of it to the replay.
    let (status, ..) = send(8, true, "Bearer token-2").await;
    assert_eq!(status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_streaming_body_that_is_accepted_is_passed_on_as_it_is() {
    let (status, api, _) = send(8, false, "Bearer token-1").await;
    assert_eq!(status, 200);
    assert_eq!(api.seen()[0].trailers, Some(trailers()));
}

#[tokio::test(start_paused = true)]
async fn rfr_11_a_streaming_body_without_a_policy_is_not_replayed() {
    let source = Script::tokens(HOUR);
    let tokens = tokens(&source).await;
    let api = Api::new();
    api.accept(|token| token == "Bearer token-2");
    let layer = OAuthLayer::new(tokens.clone(), "https://api.example".parse().unwrap());
    let client = ServiceBuilder::new().layer(layer).service(api.clone());
    let (body, _) = chunks(&["one"], None);
    let response = client.oneshot(Request::post(URL).body(body).unwrap()).await.unwrap();
    assert_eq!((response.status(), api.count()), (StatusCode::UNAUTHORIZED, 1));
    tokens.ready().await.unwrap();
    assert_eq!(source.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn f20_a_post_under_idempotent_buffering_is_not_kept() {
    let source = Script::tokens(HOUR);
    let tokens = tokens(&source).await;
    let api = Api::new();
    api.accept(|token| token == "Bearer token-2");
    let layer = OAuthLayer::new(tokens, "https://api.example".parse().unwrap())
        .replay(Idempotent(Buffered::up_to(1024)));
    let client = ServiceBuilder::new().layer(layer).service(api.clone());
    for (request, expected) in [(Request::post(URL), 401), (Request::put(URL), 200)] {
        let (body, _) = chunks(&["one"], None);
        let response = client.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        assert_eq!(response.status(), expected);
        sleep(Duration::from_secs(2)).await;
        api.accept(|token| token == "Bearer token-3");
    }
}

/// Any body will do: one of a stream, too.
#[tokio::test(start_paused = true)]
async fn any_body_type_passes() {
    let source = Script::tokens(HOUR);
    let tokens = tokens(&source).await;
    let api = Api::new();
    let client = ServiceBuilder::new()
        .layer(OAuthLayer::new(tokens, "https://api.example".parse().unwrap()))
        .service(api.clone());
    let stream = tokio_stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from("abc")))]);
    let request = Request::post(URL).body(StreamBody::new(stream)).unwrap();
    client.oneshot(request).await.unwrap();
    assert_eq!(api.seen()[0].body, "abc");
}

#[tokio::test]
async fn rfr_11_the_length_of_a_body_is_known_both_times() {
    let body = Full::new(Bytes::from_static(b"twelve bytes"));
    let (sent, kept) = Buffered::up_to(64).keep(Request::new(body));
    assert_eq!(sent.body().size_hint().exact(), Some(12));
    let mut body = sent.into_body();
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap().len(), 12);
    drop(body);
    let again = <Buffered as Replay<Request<Full<Bytes>>>>::again(&kept.unwrap());
    let again = again.unwrap().unwrap();
    assert_eq!(again.body().size_hint().exact(), Some(12));

    let (sent, kept) = Buffered::up_to(64).keep(Request::new(Full::new(Bytes::from_static(b"x"))));
    drop(sent);
    let again = <Buffered as Replay<Request<Full<Bytes>>>>::again(&kept.unwrap());
    let again = again.unwrap().unwrap();
    assert_eq!(again.body().size_hint().exact(), Some(1), "nothing of it was read");
}

#[tokio::test]
async fn a_body_that_has_ended_says_so_both_times() {
    let empty = Full::new(Bytes::new());
    let (sent, kept) = Buffered::up_to(64).keep(Request::new(empty));
    assert!(sent.body().is_end_stream(), "or an empty body would be sent as one of no known end");
    drop(sent);
    let again = <Buffered as Replay<Request<Full<Bytes>>>>::again(&kept.unwrap());
    let again = again.unwrap().unwrap();
    assert!(again.body().is_end_stream());

    let (sent, kept) = Buffered::up_to(64).keep(Request::new(Full::new(Bytes::from_static(b"x"))));
    let mut body = sent.into_body();
    assert!(!body.is_end_stream());
    body.frame().await.unwrap().unwrap();
    assert!(body.is_end_stream());
    drop(body);
    let again = <Buffered as Replay<Request<Full<Bytes>>>>::again(&kept.unwrap());
    let again = again.unwrap().unwrap();
    assert!(!again.body().is_end_stream(), "what was sent is sent again");
}

/// A follower below puts an empty body in place of the caller's.
#[tokio::test(start_paused = true)]
async fn a_redirect_follower_below_a_buffered_layer_is_refused_and_replayed() {
    let api = tower::service_fn(|request: Request<ReplayBody<Full<Bytes>>>| async move {
        let path = request.uri().path().to_owned();
        let token = request.headers()[header::AUTHORIZATION].clone();
        let body = request.into_body().collect().await?.to_bytes();
        let response = http::Response::builder();
        Ok::<_, BoxError>(match &*path {
            "/a" if token == "Bearer token-2" => {
                assert_eq!(body, "abc");
                response.status(303).header(header::LOCATION, "/b").body(body)?
            }
            "/b" if token == "Bearer token-2" => {
                assert_eq!(body, "");
                response.body(Bytes::from("there"))?
            }
            _ => response.status(401).body(Bytes::new())?,
        })
    });
    let tokens = tokens(&Script::tokens(HOUR)).await;
    let layer = OAuthLayer::new(tokens, "https://api.example".parse().unwrap());
    let client = ServiceBuilder::new()
        .layer(layer.bare_401_min_age(Duration::ZERO).replay(Buffered::up_to(1024)))
        .layer(FollowRedirectLayer::new())
        .service(api);
    let request = Request::post(URL).body(Full::from("abc")).unwrap();
    let response = client.oneshot(request).await.unwrap();
    assert_eq!((response.status(), &response.body()[..]), (StatusCode::OK, &b"there"[..]));
}

/// What was recorded of a stream was held for as long as the stream went on.
#[tokio::test(start_paused = true)]
async fn f85_once_a_stream_is_accepted_nothing_of_it_is_held() {
    for refused in [false, true] {
        let source = Script::tokens(HOUR);
        let tokens = tokens(&source).await;
        let (bodies, mut passed_on) = tokio::sync::mpsc::unbounded_channel();
        // Answers in the middle of the body, and leaves the rest of it to the test.
        let api = tower::service_fn(move |request: Request<ReplayBody<_>>| {
            let bodies = bodies.clone();
            async move {
                let (head, mut body) = request.into_parts();
                for _ in 0..100 {
                    body.frame().await.unwrap()?;
                }
                bodies.send(body).unwrap();
                let accepted = !refused || head.headers[header::AUTHORIZATION] == "Bearer token-2";
                let status = if accepted { 200 } else { 401 };
                let challenge = r#"Bearer error="invalid_token""#;
                let response = http::Response::builder().status(status);
                Ok::<_, BoxError>(response.header(header::WWW_AUTHENTICATE, challenge).body(())?)
            }
        });
        let held = Arc::new(());
        let counter = held.clone();
        let frames = (0..1000).map(move |_| {
            let owner = Counted(b"piece", counter.clone());
            Ok::<_, Infallible>(Frame::data(Bytes::from_owner(owner)))
        });
        let body = StreamBody::new(tokio_stream::iter(frames));
        let layer = OAuthLayer::new(tokens, "https://api.example".parse().unwrap());
        let client =
            ServiceBuilder::new().layer(layer.replay(Buffered::up_to(100_000))).service(api);
        let response = client.oneshot(Request::post(URL).body(body).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        // Two are here: this one, and the one that the pieces to come are made of.
        let held = || Arc::strong_count(&held) - 2;
        assert_eq!(held(), 0, "after a refusal: {refused}");
        let mut body = passed_on.recv().await.unwrap();
        if refused {
            body.frame().await.unwrap().unwrap_err();
            body = passed_on.recv().await.unwrap();
        }
        for _ in 100..1000 {
            drop(body.frame().await.unwrap().unwrap());
            assert_eq!(held(), 0);
        }
        drop(body);
    }
}

/// Whenever the caller stops to wait for the answer: before it, between refusal and renewal, or while
/// the second attempt is under way.
#[tokio::test(start_paused = true)]
async fn f85_a_caller_that_goes_away_leaves_nothing_behind() {
    let mut attempts_seen = Vec::new();
    for polls in 0..12 {
        let source = Script::tokens(HOUR);
        let tokens = tokens(&source).await;
        // Long enough for the next fetch to be allowed.
        sleep(Duration::from_secs(2)).await;
        source.then([Step::Take(Duration::from_millis(15), Box::new(Step::Token(HOUR)))]);
        // Like a connection, it reads the body in a task of its own, and may answer before that.
        let attempts = Arc::new(AtomicUsize::new(0));
        let counter = attempts.clone();
        let api = tower::service_fn(move |request: Request<ReplayBody<_>>| {
            let attempt = counter.fetch_add(1, Ordering::Relaxed);
            let reading = tokio::spawn(request.into_body().collect());
            async move {
                sleep(Duration::from_millis(12)).await;
                if attempt > 0 {
                    reading.await??;
                }
                let challenge = r#"Bearer error="invalid_token""#;
                let response =
                    http::Response::builder().status(if attempt > 0 { 200 } else { 401 });
                Ok::<_, BoxError>(response.header(header::WWW_AUTHENTICATE, challenge).body(())?)
            }
        });
        let held = Arc::new(());
        let counter = held.clone();
        let frames = (0..10).map(move |_| {
            let owner = Counted(b"piece", counter.clone());
            Ok::<_, Infallible>(Frame::data(Bytes::from_owner(owner)))
        });
        let frames = tokio_stream::iter(frames).throttle(Duration::from_millis(10));
        let body = StreamBody::new(Box::pin(frames));
        let layer = OAuthLayer::new(tokens, "https://api.example".parse().unwrap());
        let client = ServiceBuilder::new().layer(layer.replay(Buffered::up_to(1000))).service(api);
        let response = client.oneshot(Request::post(URL).body(body).unwrap());
        let mut response = tokio_test::task::spawn(response);
        for _ in 0..polls {
            let _ = response.poll();
            sleep(Duration::from_millis(5)).await;
        }
        drop(response);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(Arc::strong_count(&held), 1, "after {polls} polls");
        attempts_seen.push(attempts.load(Ordering::Relaxed));
    }
    attempts_seen.dedup();
    assert_eq!(attempts_seen, [0, 1, 2], "it went away at all stages");
}

/// Counts in how many hands the bytes are.
struct Counted(&'static [u8], #[expect(dead_code, reason = "it is counted")] Arc<()>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

#[tokio::test]
async fn f20_of_a_body_that_has_outgrown_its_bound_nothing_is_held() {
    let owned = Arc::new(());
    let (small, large) = (&b"small"[..], &b"larger than the bound"[..]);
    let each = owned.clone();
    let frames = [small, large, small].into_iter().map(move |piece| {
        Ok::<_, Infallible>(Frame::data(Bytes::from_owner(Counted(piece, each.clone()))))
    });
    let body = StreamBody::new(tokio_stream::iter(frames));
    let (sent, kept) = Buffered::up_to(16).keep(Request::new(body));
    let mut body = sent.into_body();
    // Two are here: this one, and the one that the pieces to come are made of.
    let held = || Arc::strong_count(&owned) - 2;
    for expected in [1, 0, 0] {
        drop(body.frame().await.unwrap().unwrap());
        assert_eq!(held(), expected);
    }
    drop(kept);
}
