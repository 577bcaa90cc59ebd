//! What happens beside `shutdown()`, and after it.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use http::{Request, Response};
use tokio::time::{Instant, sleep};
use tower::ServiceExt as _;
use tower_layer::Layer as _;
use tower_oauth::{
    BoxError, CloneRequest, Error, ErrorKind, OAuthLayer, Rejection, State, TokenHandle,
    observe::Event,
};

use crate::{
    HOUR,
    common::script::{Script, Step, fail},
    secs, served,
};

fn request() -> Request<String> {
    Request::get("https://api.example/").body(String::new()).unwrap()
}

// The token that a request was trying came back into service, and was served ever after.
#[tokio::test(start_paused = true)]
async fn f73_a_refused_token_that_is_accepted_after_the_shutdown_does_not_come_back() {
    let source = Script::new(Step::Again(HOUR));
    source.then([Step::Token(HOUR)]);
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    let api = tower::service_fn(|_: Request<String>| async {
        sleep(secs(5)).await;
        Ok::<_, BoxError>(Response::new(String::new()))
    });
    let client = OAuthLayer::new(tokens.clone(), "https://api.example".parse().unwrap()).layer(api);
    assert_eq!(tokens.reject(1), Rejection::Accepted);
    let trying = tokio::spawn(client.clone().oneshot(request()));
    while source.count() < 3 {
        sleep(secs(1) / 10).await;
    }
    sleep(secs(1)).await;
    tokens.shutdown().await;
    assert_eq!(trying.await.unwrap().unwrap().status(), 200);
    assert!(!served(&tokens));
    assert_eq!(tokens.status().state(), State::Stopped);
    client.oneshot(request()).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn f73_a_fetch_that_ends_with_the_shutdown_changes_nothing_that_is_told_of_the_end() {
    for step in [Step::Token(HOUR), fail(ErrorKind::Server)] {
        let source = Script::new(Step::Take(secs(1), Box::new(step)));
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = events.clone();
        let tokens = TokenHandle::builder(source)
            .observer(move |event: &Event<'_>| {
                seen.lock().unwrap().push(matches!(event, Event::Stopped));
            })
            .spawn();
        sleep(secs(1)).await;
        tokens.shutdown().await;
        sleep(secs(5)).await;
        let last = events.lock().unwrap().last().copied();
        assert_eq!(last, Some(true), "nothing is told after the end");
        let status = tokens.status();
        assert_eq!((status.state(), status.next_attempt()), (State::Stopped, None));
        assert_eq!(status.error().map(Error::kind), Some(ErrorKind::Shutdown));
        let start = Instant::now();
        assert_eq!(tokens.token().await.unwrap_err().kind(), ErrorKind::Shutdown);
        assert_eq!(start.elapsed(), secs(0));
    }
}

#[test]
fn f73_on_many_threads_a_handle_that_has_ended_says_so_at_once() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _runtime = runtime.enter();
    for round in 0..300 {
        let tokens = TokenHandle::spawn(Script::tokens(HOUR));
        for _ in 0..round % 20 {
            thread::yield_now();
        }
        runtime.block_on(async { tokens.shutdown().await });
        let error = runtime.block_on(tokens.token()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shutdown);
        let status = tokens.status();
        assert!(status.state() == State::Stopped && status.error().is_some());
    }
}

// A thousand requests waited for a step-up where two were allowed to.
#[tokio::test(start_paused = true)]
async fn f24_requests_that_wait_for_a_step_up_count_among_those_that_wait() {
    let source = Script::new(Step::Hang);
    source.then([Step::Token(HOUR)]);
    let tokens = TokenHandle::builder(source.clone()).max_waiting(2).spawn();
    tokens.ready().await.unwrap();
    let api = tower::service_fn(|_: Request<String>| async {
        let challenge = "Bearer error=\"insufficient_scope\", scope=\"b c\"";
        let response = Response::builder().status(403).header("www-authenticate", challenge);
        Ok::<_, Infallible>(response.body(String::new()).unwrap())
    });
    let layer = OAuthLayer::new(tokens.clone(), "https://api.example".parse().unwrap());
    let client = layer.replay(CloneRequest).step_up().layer(api);
    let answered = Arc::new(AtomicUsize::new(0));
    for _ in 0..1000 {
        let (sent, answered) = (client.clone().oneshot(request()), answered.clone());
        tokio::spawn(async move {
            assert_eq!(sent.await.unwrap().status(), 403);
            answered.fetch_add(1, Ordering::Relaxed);
        });
    }
    sleep(secs(10)).await;
    assert_eq!(answered.load(Ordering::Relaxed), 998);
}

#[tokio::test(start_paused = true)]
async fn f73_a_shutdown_needs_no_refresher_that_is_polled() {
    let (tokens, refresher) = TokenHandle::pair(Script::tokens(HOUR));
    let mut refresher = tokio_test::task::spawn(refresher);
    while !served(&tokens) {
        assert!(refresher.poll().is_pending());
        sleep(secs(1) / 100).await;
    }
    let mut ending = tokio_test::task::spawn(tokens.shutdown());
    assert!(ending.poll().is_pending());
    assert!(!served(&tokens));
    assert_eq!(tokens.token().await.unwrap_err().kind(), ErrorKind::Shutdown);
}
