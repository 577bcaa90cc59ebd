//! A token's life: obtained, renewed, revoked.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::harness::{Below, Product};

with_each_client!(
    i5_tokens_are_renewed_under_load_once_a_lifetime_and_nobody_waits,
    f16_a_revocation_in_mid_load_costs_one_token_request_and_no_answer,
);

async fn i5_tokens_are_renewed_under_load_once_a_lifetime_and_nobody_waits(below: Below) {
    const LIFETIME: Duration = Duration::from_secs(3);
    let product = Arc::new(Product::start(LIFETIME).await);
    let stack = product.stack(below);
    let waited = product.events.count("waited");
    let end = Instant::now() + LIFETIME * 5 / 2;
    let mut load = JoinSet::new();
    for _ in 0..16 {
        let (product, stack) = (product.clone(), stack.clone());
        load.spawn(async move {
            let mut served = 0;
            while Instant::now() < end {
                assert_eq!(product.get(&stack).await.unwrap(), 200);
                served += 1;
                sleep(Duration::from_millis(5)).await;
            }
            served
        });
    }
    let served: usize = load.join_all().await.into_iter().sum();
    assert_eq!((product.api.request_count(), product.api.refused()), (served, 0));
    assert_eq!((product.events.count("waited"), product.events.count("expired")), (waited, 0));

    // Each renewal comes in the second half of the life of the token before: it is a short one.
    let requests = product.server.token_requests();
    assert!((3..=5).contains(&requests.len()), "{}", requests.len());
    for pair in requests.windows(2) {
        let age = pair[1].at - pair[0].at;
        assert!(age >= LIFETIME / 2 && age < LIFETIME * 3 / 4, "{age:?}");
    }
    assert_eq!(product.tokens.status().epoch(), requests.len() as u64);
}

async fn f16_a_revocation_in_mid_load_costs_one_token_request_and_no_answer(below: Below) {
    const REQUESTS: usize = 1000;
    let product = Arc::new(Product::start(Duration::from_secs(3600)).await);
    product.api.delay(Duration::from_millis(20));
    let stack = product.stack(below);
    let start = Arc::new(Semaphore::new(0));
    let mut requests = JoinSet::new();
    for _ in 0..REQUESTS {
        let (product, stack, start) = (product.clone(), stack.clone(), start.clone());
        requests.spawn(async move {
            start.acquire().await.unwrap().forget();
            product.get(&stack).await.unwrap()
        });
    }
    start.add_permits(REQUESTS / 2);
    sleep(Duration::from_millis(10)).await;
    product.server.revoke_access_tokens();
    start.add_permits(REQUESTS / 2);
    assert!(requests.join_all().await.iter().all(|status| *status == 200));
    assert_eq!(product.server.token_request_count(), 2);
    let refused = product.api.refused();
    assert!(refused > 0, "the revocation came too late");
    assert_eq!(product.api.request_count(), REQUESTS + refused);
    assert_eq!((product.events.count("rejected"), product.events.count("replayed")), (1, refused));
}
