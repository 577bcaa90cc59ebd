//! Redirects by the API: the token stays where it was allowed to go.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tower::{ServiceBuilder, ServiceExt};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_oauth::testing::{ProtectedApi, Reply};

use crate::harness::{Product, get, hyper, no_proxy, reqwest_under};

const HOUR: Duration = Duration::from_secs(3600);

/// The product, and an API on another port that the layer does not know.
async fn two_apis() -> (Product, ProtectedApi) {
    let product = Product::start(HOUR).await;
    let other = ProtectedApi::start(&product.server).await.unwrap();
    other.always(Reply::status(200));
    (product, other)
}

#[tokio::test]
async fn inj_04_f21_a_follower_below_takes_the_token_to_no_other_port() {
    let (product, other) = two_apis().await;
    let stack = reqwest_under(product.layer(), no_proxy());
    for status in [302, 307, 308] {
        let location = format!("{}/elsewhere", other.url());
        product.api.script(Reply::status(status).header("location", &location));
        assert_eq!(product.get(&stack).await.unwrap(), 200);
        let seen = other.requests().pop().unwrap();
        assert_eq!((seen.path(), seen.header("authorization")), ("/elsewhere", None));
    }
    assert_eq!(other.request_count(), 3);
}

#[tokio::test]
async fn inj_04_a_follower_below_keeps_the_token_on_the_same_origin() {
    let product = Product::start(HOUR).await;
    let stack = reqwest_under(product.layer(), no_proxy());
    for (status, location) in
        [(302, "/two".to_owned()), (307, format!("{}/two", product.api.url()))]
    {
        product.api.script(Reply::status(status).header("location", &location));
        assert_eq!(product.get(&stack).await.unwrap(), 200);
    }
    let requests = product.api.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests.iter().all(|request| request.bearer() == Some(&product.current())));
}

#[tokio::test]
async fn inj_04_f21_a_follower_above_has_each_hop_judged() {
    let (product, other) = two_apis().await;
    let client = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer(product.layer())
        .service(hyper());
    // Away, and back again.
    let away = format!("{}/elsewhere", other.url());
    let back = format!("{}/back", product.api.url());
    product.api.script(Reply::status(307).header("location", &away));
    other.script(Reply::status(307).header("location", &back));
    let request = Request::get(format!("{}/a", product.api.url())).body(Full::<Bytes>::default());
    assert_eq!(client.oneshot(request.unwrap()).await.unwrap().status(), 200);
    assert_eq!(other.requests()[0].header("authorization"), None);
    let token = product.current();
    let seen = product.api.requests();
    let paths: Vec<_> = seen.iter().map(|seen| (seen.path(), seen.bearer())).collect();
    assert_eq!(paths, [("/a", Some(&*token)), ("/back", Some(&*token))]);
}

/// What a server says that was not sent the token is not about the token.
#[tokio::test]
async fn f21_a_refusal_by_a_foreign_origin_below_does_not_end_the_token() {
    let (product, other) = two_apis().await;
    let stack = reqwest_under(product.layer(), no_proxy());
    let first = product.current();
    other.always(Reply::status(401).header("www-authenticate", r#"Bearer error="invalid_token""#));
    let location = format!("{}/elsewhere", other.url());
    product.api.always(Reply::status(307).header("location", &location));
    assert_eq!(get(&stack, product.api.url()).await.unwrap(), 401);
    assert_eq!(product.current(), first);
    assert_eq!((product.events.count("rejected"), other.request_count()), (0, 1));
}
