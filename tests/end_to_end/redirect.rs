//! Redirects by the API: the token stays where it was allowed to go.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tower::{ServiceBuilder, ServiceExt};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_oauth::{
    Origins,
    testing::{ProtectedApi, Reply},
};

use crate::harness::{Product, following, get, hyper, reqwest_under};

const HOUR: Duration = Duration::from_secs(3600);

/// The product, and an API on another port that the layer does not know.
async fn two_apis() -> (Product, ProtectedApi) {
    let product = Product::start(HOUR).await;
    let other = ProtectedApi::start(&product.server).await.unwrap();
    other.always(Reply::status(200));
    (product, other)
}

/// reqwest's follower sends the token at the second hop to a foreign origin: it removes the header
/// from a copy of the first request's, at each hop anew.
#[tokio::test]
async fn f105_reqwest_with_our_policy_stops_before_a_foreign_origin() {
    let (product, other) = two_apis().await;
    let policy = origins(&product).redirect_policy();
    let stack = reqwest_under(product.layer(), following(policy));
    // The other one would redirect within itself: that is the hop that got the token.
    other.always(Reply::status(307).header("location", "/end"));
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{}/start", other.url());
        product.api.script(Reply::status(status).header("location", &location));
        assert_eq!(product.get(&stack).await.unwrap(), status);
    }
    // After a hop at home, too.
    product.api.script(Reply::status(302).header("location", "/two"));
    let away = format!("{}/start", other.url());
    product.api.script(Reply::status(302).header("location", &away));
    assert_eq!(product.get(&stack).await.unwrap(), 302);
    assert_eq!((other.request_count(), product.events.count("redirected")), (0, 0));
}

/// Why the policy is needed. If this fails, reqwest has it fixed: say so in the documentation.
#[tokio::test]
async fn f105_reqwest_by_default_sends_the_token_at_the_second_hop_and_the_layer_warns_once() {
    let (product, other) = two_apis().await;
    let stack = reqwest_under(product.layer(), following(reqwest::redirect::Policy::default()));
    for _ in 0..2 {
        let location = format!("{}/start", other.url());
        product.api.script(Reply::status(307).header("location", &location));
        other.script(Reply::status(307).header("location", "/end"));
        assert_eq!(product.get(&stack).await.unwrap(), 200);
    }
    let seen = other.requests();
    let got: Vec<_> = seen.iter().map(|seen| (seen.path(), seen.bearer().is_some())).collect();
    assert_eq!(got, [("/start", false), ("/end", true), ("/start", false), ("/end", true)]);
    let events = &product.events;
    assert_eq!((events.count("redirected"), events.count("redirected again")), (1, 1));
}

#[tokio::test]
async fn f105_our_policy_follows_ten_redirects_and_returns_the_next() {
    let product = Product::start(HOUR).await;
    let stack = reqwest_under(product.layer(), following(origins(&product).redirect_policy()));
    product.api.always(Reply::status(307).header("location", "/again"));
    assert_eq!(product.get(&stack).await.unwrap(), 307);
    assert_eq!(product.api.request_count(), 11);
}

fn origins(product: &Product) -> Origins {
    product.api.url().parse().unwrap()
}

#[tokio::test]
async fn inj_04_a_follower_below_keeps_the_token_on_the_same_origin() {
    let product = Product::start(HOUR).await;
    let stack = reqwest_under(product.layer(), following(origins(&product).redirect_policy()));
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
    let stack = reqwest_under(product.layer(), following(reqwest::redirect::Policy::default()));
    let first = product.current();
    other.always(Reply::status(401).header("www-authenticate", r#"Bearer error="invalid_token""#));
    let location = format!("{}/elsewhere", other.url());
    product.api.always(Reply::status(307).header("location", &location));
    assert_eq!(get(&stack, product.api.url()).await.unwrap(), 401);
    assert_eq!(product.current(), first);
    assert_eq!((product.events.count("rejected"), other.request_count()), (0, 1));
}
