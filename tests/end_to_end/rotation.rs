//! The refresh token grant against a server that rotates.

use std::time::Duration;

use tokio::time::sleep;
use tower_oauth::{
    ClientAuth, ErrorKind, RefreshToken,
    testing::{Reply, Rotation},
};

use crate::harness::{Below, Product, ours, server, until};

const HOUR: Duration = Duration::from_secs(3600);

with_each_client!(
    rfr_02_twenty_rotations_never_send_a_spent_token,
    rfr_08_a_lost_answer_within_the_grace_loses_nothing,
    rfr_08_a_lost_answer_without_a_grace_ends_the_grant_and_not_in_a_loop,
);

async fn product(grace: Duration) -> Product {
    let server = server(HOUR).await;
    server.rotation(Rotation::Always { grace });
    let initial = server.issue_refresh_token("orders");
    let auth = ClientAuth::basic("orders", "s3cr3t");
    let source = RefreshToken::builder(server.token_endpoint(), auth, initial).build().unwrap();
    Product::with(server, source).await
}

fn sent(product: &Product) -> Vec<String> {
    let requests = product.server.token_requests();
    requests.iter().map(|request| request.param("refresh_token").unwrap()).collect()
}

async fn rfr_02_twenty_rotations_never_send_a_spent_token(below: Below) {
    let product = product(Duration::ZERO).await;
    let stack = product.stack(below);
    for _ in 1..20 {
        product.tokens.refresh().await.unwrap();
        assert_eq!(product.get(&stack).await.unwrap(), 200);
    }
    assert!(!product.server.reuse_detected());
    let mut sent = sent(&product);
    assert_eq!(sent.len(), 20);
    sent.sort();
    sent.dedup();
    assert_eq!(sent.len(), 20);
}

async fn rfr_08_a_lost_answer_within_the_grace_loses_nothing(below: Below) {
    let product = product(Duration::from_secs(30)).await;
    let stack = product.stack(below);
    product.server.script(Reply::honest().then_reset_before_answer());
    let lost = product.tokens.refresh().await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Transport);
    until("the second attempt", || product.tokens.status().epoch() == 2).await;
    // The rotation goes on from the answer that arrived.
    product.tokens.refresh().await.unwrap();
    assert_eq!(product.get(&stack).await.unwrap(), 200);
    let [_, first, again, next] = <[String; 4]>::try_from(sent(&product)).unwrap();
    assert!(first == again && again != next);
    assert!(!product.server.reuse_detected());
}

async fn rfr_08_a_lost_answer_without_a_grace_ends_the_grant_and_not_in_a_loop(below: Below) {
    let product = product(Duration::ZERO).await;
    let stack = product.stack(below);
    product.server.script(Reply::honest().then_reset_before_answer());
    product.tokens.refresh().await.unwrap_err();
    let ended = || product.tokens.status().error().is_some_and(tower_oauth::Error::needs_user);
    until("the end of the grant", ended).await;
    assert!(product.server.reuse_detected());

    // The server has revoked what it issued: the first request finds out, the others fail typed.
    assert_eq!(product.get(&stack).await.unwrap(), 401);
    for _ in 0..50 {
        let error = product.get(&stack).await.unwrap_err();
        assert_eq!(ours(&error).kind(), ErrorKind::InvalidGrant);
    }
    sleep(Duration::from_secs(2)).await;
    assert_eq!((product.server.token_request_count(), product.api.request_count()), (3, 1));
}
