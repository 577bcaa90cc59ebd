//! The hot path: no allocation of ours, no wait, no shared line written.
#![cfg(test)]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]

mod common;

use std::{
    future::{Ready, ready},
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use allocation_counter::{AllocationInfo, measure};
use common::script::Script;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use tower::Service;
use tower_layer::Layer;
use tower_oauth::{CloneRequest, OAuthLayer, Origins, TokenHandle, observe::Event};

/// Answers at once, and allocates nothing.
#[derive(Clone)]
struct Bare;

impl Service<Request<()>> for Bare {
    type Response = Response<()>;
    type Error = std::convert::Infallible;
    type Future = Ready<Result<Response<()>, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        assert!(request.headers().contains_key(header::AUTHORIZATION));
        ready(Ok(Response::new(())))
    }
}

/// A request with room for its headers: `HeaderMap` allocates its table on the first insertion,
/// whoever inserts.
fn request() -> Request<()> {
    let mut request = Request::get("https://api.example/orders").body(()).unwrap();
    *request.headers_mut() = HeaderMap::with_capacity(8);
    request
}

/// Sends a request and checks that its first poll is its last: nothing waits.
fn send<S: Service<Request<()>>>(service: &mut S, request: Request<()>) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let response = std::pin::pin!(service.call(request));
    assert!(response.poll(&mut cx).is_ready());
}

fn allocations(work: impl FnMut()) -> AllocationInfo {
    let mut work = work;
    // What is set up once per thread is not counted.
    work();
    measure(|| (0..100).for_each(|_| work()))
}

#[tokio::test]
async fn a_request_with_a_token_at_hand_allocates_nothing_and_does_not_wait() {
    let waits = Arc::new(AtomicUsize::new(0));
    let counter = waits.clone();
    let tokens = TokenHandle::builder(Script::tokens(Duration::from_secs(3600)))
        .observer(move |event: &Event<'_>| {
            if let Event::Waited { .. } = event {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        })
        .spawn();
    tokens.ready().await.unwrap();
    let after_start = waits.load(Ordering::Relaxed);

    let hosts = (0..7).map(|n| format!("https://other{n}.example"));
    let origins = Origins::new(hosts.chain(["https://api.example".to_owned()])).unwrap();
    let layer = OAuthLayer::new(tokens.clone(), origins);
    let mut kept = layer.layer(Bare);
    let cloned = layer.layer(Bare);
    let mut replaying = layer.clone().replay(CloneRequest).layer(Bare);

    let building = allocations(|| drop(request())).count_total;
    let kept = allocations(|| send(&mut kept, request())).count_total;
    let cloned = allocations(|| send(&mut cloned.clone(), request())).count_total;
    assert_eq!(kept, building, "a service that is kept");
    assert_eq!(cloned, building, "a service that is cloned for each request");

    // Cloning a request copies its header table; that is what the caller asked for.
    let twice = allocations(|| drop((request(), request().clone()))).count_total;
    let replaying = allocations(|| send(&mut replaying, request())).count_total;
    assert!(replaying <= twice, "replay: {replaying}, two requests and a copy: {twice}");

    assert_eq!(waits.load(Ordering::Relaxed), after_start);
}

/// Every thread sends through clones of one service, and each for itself allocates nothing.
#[tokio::test]
async fn threads_that_share_a_service_allocate_nothing() {
    let tokens = TokenHandle::spawn(Script::tokens(Duration::from_secs(3600)));
    tokens.ready().await.unwrap();
    let layer = OAuthLayer::new(tokens, "https://api.example".parse().unwrap());
    let service = layer.layer(Bare);
    let replaying = layer.replay(CloneRequest).layer(Bare);
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let building = allocations(|| drop(request())).count_total;
                let copying = allocations(|| {
                    let mut request = request();
                    let token = HeaderValue::from_static("Bearer token");
                    request.headers_mut().insert(header::AUTHORIZATION, token);
                    drop(request.clone());
                });
                let copying = copying.count_total;
                barrier.wait();
                let cloned = allocations(|| send(&mut service.clone(), request())).count_total;
                assert_eq!(cloned, building);
                let again = allocations(|| send(&mut replaying.clone(), request())).count_total;
                assert_eq!(again, copying, "the caller's request and the copy that is kept");
            });
        }
    });
}

/// Swapping tokens is the refresher's work: readers allocate nothing across swaps either.
#[tokio::test]
async fn readers_allocate_nothing_while_tokens_are_swapped() {
    let tokens = TokenHandle::spawn(Script::tokens(Duration::from_secs(3600)));
    tokens.ready().await.unwrap();
    let mut service =
        OAuthLayer::new(tokens.clone(), "https://api.example".parse().unwrap()).layer(Bare);
    let building = allocations(|| drop(request())).count_total;
    for _ in 0..5 {
        let injecting = allocations(|| send(&mut service, request())).count_total;
        assert_eq!(injecting, building);
        tokens.refresh().await.unwrap();
    }
}
