//! A request that waits for a token holds nothing of the service below.

use tokio::{
    task::yield_now,
    time::{Instant, sleep},
};
use tower::{
    ServiceBuilder, buffer::BufferLayer, limit::ConcurrencyLimitLayer, load_shed::LoadShedLayer,
};
use tower_layer::Layer;
use tower_oauth::{CloneRequest, TokenHandle};

use super::{API, HOUR, get, layer, millis, secs, send};
use crate::common::{
    api::Api,
    script::{Script, Step},
};

async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

/// A handle whose first token takes a while.
fn late(by: std::time::Duration) -> TokenHandle {
    let source = Script::tokens(HOUR);
    source.then([Step::Take(by, Box::new(Step::Token(HOUR)))]);
    TokenHandle::spawn(source)
}

#[tokio::test(start_paused = true)]
async fn f61_a_request_to_a_foreign_origin_goes_through_while_others_wait() {
    let tokens = late(secs(20));
    let api = Api::new();
    let client = ServiceBuilder::new()
        .layer(layer(&tokens).replay(CloneRequest))
        .layer(ConcurrencyLimitLayer::new(8))
        .service(api.clone());
    let waiting: Vec<_> = (0..8).map(|_| tokio::spawn(send(&client, get(API)))).collect();
    settle().await;
    let started = Instant::now();
    send(&client, get("https://other.example")).await.unwrap();
    assert_eq!(started.elapsed(), secs(0));
    for request in waiting {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(started.elapsed(), secs(20));
    assert_eq!(api.count(), 9);
}

#[tokio::test(start_paused = true)]
async fn f61_load_shed_below_never_sees_the_requests_that_wait() {
    let tokens = late(secs(20));
    let client = ServiceBuilder::new()
        .layer(layer(&tokens))
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(1))
        .service(Api::new());
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { send(&client, get(API)).await }
    });
    settle().await;
    send(&client, get("https://other.example")).await.expect("nothing is overloaded");
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn f61_a_buffer_below_has_its_places_while_requests_wait() {
    let tokens = late(secs(20));
    let client =
        ServiceBuilder::new().layer(layer(&tokens)).layer(BufferLayer::new(1)).service(Api::new());
    let waiting: Vec<_> = (0..10).map(|_| tokio::spawn(send(&client, get(API)))).collect();
    settle().await;
    let started = Instant::now();
    send(&client, get("https://other.example")).await.unwrap();
    assert_eq!(started.elapsed(), secs(0));
    for request in waiting {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
}

#[cfg(feature = "pool")]
#[tokio::test(start_paused = true)]
async fn f61_a_tenant_whose_source_hangs_does_not_hold_the_places_of_another() {
    use tower_oauth::OAuthLayer;

    let pool = tower_oauth::TokenPool::builder(|tenant: &u32| match tenant {
        0 => Script::new(Step::Hang),
        _ => Script::tokens(HOUR),
    })
    .spawn();
    pool.token(&1).await.unwrap();
    let keyed = OAuthLayer::keyed(pool, API.parse().unwrap(), |request: &http::Request<String>| {
        request.extensions().get::<u32>().copied()
    });
    let client = keyed.layer(ConcurrencyLimitLayer::new(8).layer(Api::new()));
    let of = |tenant: u32| {
        let mut request = get(API);
        request.extensions_mut().insert(tenant);
        request
    };
    for _ in 0..8 {
        tokio::spawn(send(&client, of(0)));
    }
    settle().await;
    let started = Instant::now();
    assert_eq!(send(&client, of(1)).await.unwrap().status(), 200);
    assert_eq!(started.elapsed(), secs(0));
}

/// The place below is taken while the token comes; both waits are one.
#[tokio::test(start_paused = true)]
async fn f61_after_the_wait_the_service_is_polled_ready_again() {
    let tokens = late(secs(5));
    let api = Api::new();
    let limited = ConcurrencyLimitLayer::new(1).layer(api.clone());
    let client = layer(&tokens).layer(limited);
    api.delay(secs(3));
    let slow = tokio::spawn({
        let client = client.clone();
        async move {
            sleep(millis(4000)).await;
            send(&client, get("https://other.example")).await
        }
    });
    let started = Instant::now();
    assert_eq!(send(&client, get(API)).await.unwrap().status(), 200);
    // The token after 5 s, the place after 7 s, the answer after 10 s.
    assert_eq!(started.elapsed(), secs(10));
    slow.await.unwrap().unwrap();
}
