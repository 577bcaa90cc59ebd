//! One budget for all that a request waits for.

use tokio::time::{Instant, sleep};
use tower::{ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};
use tower_layer::Layer;
use tower_oauth::{CloneRequest, ErrorKind, TokenHandle};

use super::{API, HOUR, get, kind, layer, secs, send};
use crate::common::{
    api::Api,
    script::{Script, Step, fail},
};

#[tokio::test(start_paused = true)]
async fn f65_a_request_waits_no_longer_than_its_budget_in_all_its_waits_together() {
    let source = Script::tokens(HOUR);
    source.then([Step::Take(secs(28), Box::new(Step::Token(HOUR))), Step::Hang]);
    let tokens = TokenHandle::builder(source).fetch_timeout(HOUR).spawn();
    let api = Api::new();
    api.accept(|_| false).delay(secs(60));
    let client = layer(&tokens).replay(CloneRequest).layer(api.clone());
    let started = Instant::now();
    assert_eq!(send(&client, get(API)).await.unwrap().status(), 401);
    // 28 s for the first token, a minute for the API's answer, and the 2 s that are left.
    assert_eq!(started.elapsed(), secs(28 + 60 + 2));
    assert_eq!(api.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn f65_the_wait_for_readiness_is_in_the_budget_too() {
    let source = Script::tokens(HOUR);
    source.then([Step::Take(secs(20), Box::new(Step::Token(HOUR)))]);
    let tokens = TokenHandle::spawn(source);
    let api = Api::new();
    api.delay(HOUR);
    let client = layer(&tokens).layer(ConcurrencyLimitLayer::new(1).layer(api.clone()));
    tokio::spawn({
        let client = client.clone();
        async move {
            sleep(secs(10)).await;
            send(&client, get("https://other.example")).await
        }
    });
    let started = Instant::now();
    let error = send(&client, get(API)).await.unwrap_err();
    assert_eq!(kind(&error), ErrorKind::Timeout);
    assert_eq!(started.elapsed(), secs(30));
    assert_eq!(api.count(), 1, "the other one is still under way");
}

#[tokio::test(start_paused = true)]
async fn f65_what_the_api_takes_is_neither_counted_nor_cut() {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    let api = Api::new();
    api.accept(|token| token == "Bearer token-2").delay(secs(300));
    source.then([Step::Take(secs(29), Box::new(Step::Token(HOUR)))]);
    let client = layer(&tokens).replay(CloneRequest).layer(api.clone());
    let started = Instant::now();
    assert_eq!(send(&client, get(API)).await.unwrap().status(), 200);
    assert_eq!(started.elapsed(), secs(300 + 29 + 300));
}

#[tokio::test(start_paused = true)]
async fn f66_after_a_refusal_a_failure_that_may_pass_is_waited_out() {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    source.then([fail(ErrorKind::Transport)]);
    tokens.reject(1);
    assert_eq!(tokens.token().await.unwrap().access_token().expose(), "token-2");
    assert_eq!(source.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn f66_requests_that_wait_fail_at_once_for_what_needs_an_operator() {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    source.then([fail(ErrorKind::Transport)]);
    source.otherwise(fail(ErrorKind::InvalidGrant));
    tokens.reject(1);
    let started = Instant::now();
    let client = layer(&tokens).layer(Api::new());
    let error = send(&client, get(API)).await.unwrap_err();
    assert_eq!(kind(&error), ErrorKind::InvalidGrant);
    assert!(started.elapsed() < secs(2));
}

#[cfg(feature = "pool")]
#[tokio::test(start_paused = true)]
async fn f66_a_tenant_waits_a_failure_out_in_any_state() {
    let script = Script::tokens(secs(100));
    let pool = tower_oauth::TokenPool::builder({
        let script = script.clone();
        move |(): &()| script.clone()
    })
    .spawn();
    let epoch = pool.token(&()).await.unwrap().epoch();
    script.then([fail(ErrorKind::Transport), fail(ErrorKind::Server)]);
    pool.reject(&(), epoch);
    assert_eq!(pool.token(&()).await.unwrap().access_token().expose(), "token-2");
    // Expired.
    sleep(secs(200)).await;
    script.then([fail(ErrorKind::Transport), fail(ErrorKind::Server)]);
    pool.token(&()).await.unwrap();
}

/// The service that a request has waited with is not called again unless it was ready again.
#[tokio::test(start_paused = true)]
async fn f61_a_service_with_readiness_of_its_own_is_called_once_for_each_time_it_is_ready() {
    let source = Script::tokens(HOUR);
    source.then([Step::Take(secs(5), Box::new(Step::Token(HOUR)))]);
    let tokens = TokenHandle::spawn(source);
    let api = Api::new();
    let mut client = ServiceBuilder::new()
        .layer(layer(&tokens))
        .map_request(|request: http::Request<String>| request)
        .service(api.clone());
    for _ in 0..3 {
        client.ready().await.unwrap();
        let response = tower::Service::call(&mut client, get(API)).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    let never = service_fn(|_: http::Request<String>| {
        std::future::pending::<Result<http::Response<String>, std::io::Error>>()
    });
    let hanging = layer(&tokens).layer(never);
    let request = tokio::time::timeout(HOUR, send(&hanging, get(API)));
    assert!(request.await.is_err(), "the API's own time has no bound of ours");
}
