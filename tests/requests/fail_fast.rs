//! Services that are not `Clone`.

use std::time::Duration;

use http::{Request, Response};
use tokio::time::{Instant, sleep};
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt, balance::p2c::Balance, discover::ServiceList,
    limit::RateLimitLayer, load::Constant, reconnect::Reconnect, service_fn,
    spawn_ready::SpawnReadyLayer, util::BoxService,
};
use tower_layer::Layer;
use tower_oauth::{ErrorKind, FailFast, OAuth, TokenHandle};

use super::{API, HOUR, get, kind, layer, secs};
use crate::common::{
    api::Api,
    script::{Script, Step, fail},
};

type Client<S> = OAuth<S, FailFast>;

async fn works<S>(mut client: Client<S>)
where
    Client<S>: Service<Request<String>, Response = Response<String>, Error = BoxError>,
{
    for _ in 0..2 {
        let response = client.ready().await.unwrap().call(get(API)).await.unwrap();
        assert_eq!(response.status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn services_that_are_not_clone_get_tokens_too() {
    let tokens = TokenHandle::spawn(Script::tokens(HOUR));
    tokens.ready().await.unwrap();
    let layer = || layer(&tokens).fail_fast();
    let api = Api::new();
    api.accept(|token| token == "Bearer token-1");

    works(layer().layer(RateLimitLayer::new(100, secs(1)).layer(api.clone()))).await;
    works(layer().layer(SpawnReadyLayer::new().layer(api.clone()))).await;
    works(layer().layer(BoxService::new(api.clone()))).await;
    let list = ServiceList::new::<Request<String>>([Constant::new(api.clone(), 1)]);
    works(layer().layer(Balance::new(list))).await;
    let connect = service_fn({
        let api = api.clone();
        move |(): ()| std::future::ready(Ok::<_, BoxError>(api.clone()))
    });
    works(layer().layer(Reconnect::new(connect, ()))).await;
    // A closure that owns something that is not `Clone`.
    let owned = std::sync::Mutex::new(());
    let below = service_fn(move |_: Request<String>| {
        let _ = &owned;
        std::future::ready(Ok::<_, BoxError>(Response::new(String::new())))
    });
    works(layer().layer(below)).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_token_at_hand_it_fails_at_once_and_has_one_fetched() {
    let source = Script::tokens(HOUR);
    source.then([Step::Take(secs(3), Box::new(Step::Token(HOUR)))]);
    let tokens = TokenHandle::spawn(source.clone());
    let api = Api::new();
    let mut client = layer(&tokens).fail_fast().layer(BoxService::new(api.clone()));
    let started = Instant::now();
    let error = client.ready().await.unwrap().call(get(API)).await.unwrap_err();
    assert_eq!(kind(&error), ErrorKind::Timeout);
    assert_eq!((started.elapsed(), api.count()), (Duration::ZERO, 0));
    sleep(secs(4)).await;
    assert_eq!(client.ready().await.unwrap().call(get(API)).await.unwrap().status(), 200);
    // What needs an operator is said.
    source.otherwise(fail(ErrorKind::InvalidClient));
    tokens.reject(1);
    sleep(secs(1)).await;
    let error = client.ready().await.unwrap().call(get(API)).await.unwrap_err();
    assert_eq!(kind(&error), ErrorKind::InvalidClient);
}

/// The lines that `docs::layer_order` names for services that are not `Clone`, and for a layer that is
/// optional.
#[tokio::test(start_paused = true)]
async fn a_buffer_or_another_error_type_makes_the_other_stacks_compile() {
    let tokens = TokenHandle::spawn(Script::tokens(HOUR));
    let api = Api::new();
    let limited = ServiceBuilder::new()
        .layer(layer(&tokens))
        .buffer::<Request<String>>(64)
        .rate_limit(100, secs(1))
        .service(api.clone());
    limited.oneshot(get(API)).await.unwrap();

    for optional in [Some(layer(&tokens)), None] {
        let client = ServiceBuilder::new()
            .option_layer(optional)
            .map_err(BoxError::from)
            .service(api.clone());
        client.oneshot(get(API)).await.unwrap();
    }
    assert_eq!(api.seen()[1].authorization(), Some("Bearer token-1"));
    assert_eq!(api.seen()[2].authorization(), None);
}

#[cfg(feature = "pool")]
#[tokio::test(start_paused = true)]
async fn tenants_fail_at_once_too() {
    use tower_oauth::OAuthLayer;

    let pool = tower_oauth::TokenPool::builder(|_: &u32| {
        let script = Script::tokens(HOUR);
        script.then([Step::Take(secs(3), Box::new(Step::Token(HOUR)))]);
        script
    })
    .spawn();
    let key = |_: &Request<String>| Some(7);
    let layer = OAuthLayer::keyed(pool.clone(), API.parse().unwrap(), key).fail_fast();
    let mut client = layer.layer(BoxService::new(Api::new()));
    let error = client.ready().await.unwrap().call(get(API)).await.unwrap_err();
    assert_eq!(kind(&error), ErrorKind::Timeout);
    sleep(secs(4)).await;
    assert!(pool.current(&7).is_some(), "that it was asked for had it fetched");
    assert_eq!(client.ready().await.unwrap().call(get(API)).await.unwrap().status(), 200);
}
