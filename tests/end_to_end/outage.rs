//! An authorization server that goes away, and comes back.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower_oauth::{ErrorKind, State, TokenHandle, testing::ProtectedApi};

use crate::harness::{Below, Events, Product, client_credentials, server, until};

with_each_client!(
    f02_an_outage_within_a_tokens_life_is_not_noticed,
    f03_f66_past_expiry_requests_wait_and_the_first_success_resumes_all,
);

async fn f02_an_outage_within_a_tokens_life_is_not_noticed(below: Below) {
    const LIFETIME: Duration = Duration::from_secs(3);
    let server = server(LIFETIME).await;
    let events = Events::default();
    let tokens = TokenHandle::builder(client_credentials(&server))
        // Early, so that a busy machine has time for the attempts after the outage.
        .margin(0.5..0.6)
        .unwrap()
        .observer(events.observer())
        .spawn();
    tokens.ready().await.unwrap();
    let start = Instant::now();
    let api = ProtectedApi::start(&server).await.unwrap();
    let product = Arc::new(Product { server, api, tokens, events });
    let waited = product.events.count("waited");
    product.server.stop().await;

    let load = tokio::spawn({
        let (product, stack) = (product.clone(), product.stack(below));
        async move {
            while start.elapsed() < LIFETIME + Duration::from_millis(500) {
                assert_eq!(product.get(&stack).await.unwrap(), 200);
                sleep(Duration::from_millis(2)).await;
            }
        }
    });
    until("two failed attempts", || product.tokens.status().failures() >= 2).await;
    assert_eq!(product.tokens.status().error().unwrap().kind(), ErrorKind::Transport);
    product.server.lifetime(LIFETIME * 100).resume().unwrap();
    load.await.unwrap();
    assert_eq!((product.events.count("waited"), product.events.count("expired")), (waited, 0));
    assert_eq!((product.server.issued(), product.api.refused()), (2, 0));
}

async fn f03_f66_past_expiry_requests_wait_and_the_first_success_resumes_all(below: Below) {
    let product = Arc::new(Product::start(Duration::from_secs(2)).await);
    let stack = product.stack(below);
    product.get(&stack).await.unwrap();
    product.server.stop().await;
    until("the expiry", || product.tokens.status().state() == State::Expired).await;

    let sent = product.api.request_count();
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let (product, stack) = (product.clone(), stack.clone());
        callers.spawn(async move { product.get(&stack).await.unwrap() });
    }
    until("two failed attempts", || product.tokens.status().failures() >= 2).await;
    assert_eq!(product.api.request_count(), sent, "an expired token was sent");

    product.server.lifetime(Duration::from_secs(3600)).resume().unwrap();
    assert!(callers.join_all().await.iter().all(|status| *status == 200));
    assert_eq!(product.server.token_request_count(), 2);
}
