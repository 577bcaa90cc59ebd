//! Tenants whose APIs are at hosts of their own.

use std::sync::Arc;

use http::Request;
use tower_layer::Layer;
use tower_oauth::{CloneRequest, ForeignOrigin, OAuthLayer, Origins, TokenPool};

use super::{HOUR, get, send};
use crate::common::{
    api::Api,
    script::{Script, Step},
};

fn tenant(request: &Request<String>) -> Option<u32> {
    request.extensions().get().copied()
}

fn of(tenant: u32, url: &str) -> Request<String> {
    let mut request = get(url);
    request.extensions_mut().insert(tenant);
    request
}

#[tokio::test(start_paused = true)]
async fn f82_a_tenants_token_never_goes_to_another_tenants_host() {
    let pool = TokenPool::builder(|_: &u32| Script::tokens(HOUR)).spawn();
    let origins_of = |tenant: &u32| {
        let origins: Origins = format!("https://{tenant}.example").parse().ok()?;
        (*tenant < 3).then(|| Arc::new(origins))
    };
    let api = Api::new();
    let layer = OAuthLayer::keyed_with_origins(pool.clone(), origins_of, tenant);
    let client = layer.clone().replay(CloneRequest).layer(api.clone());
    for (tenant, url, token) in [
        (1, "https://1.example/a", true),
        (1, "https://2.example/a", false),
        (2, "https://2.example/a", true),
        (2, "https://1.example/a", false),
        // One without a host of its own.
        (3, "https://3.example/a", false),
    ] {
        send(&client, of(tenant, url)).await.unwrap();
        let seen = api.seen().pop().unwrap();
        assert_eq!(seen.authorization().is_some(), token, "{tenant} at {url}");
    }
    assert_eq!(pool.len(), 2, "what gets no token has no tenant");
    // Also when the token has to be waited for, and for a target that is a path.
    let slow = TokenPool::builder(|_: &u32| {
        Script::new(Step::Take(HOUR / 3600, Box::new(Step::Token(HOUR))))
    })
    .spawn();
    let layer = OAuthLayer::keyed_with_origins(slow, origins_of, tenant);
    let client = layer.foreign_origin(ForeignOrigin::Refuse).layer(api.clone());
    let before = api.count();
    assert!(send(&client, of(1, "https://2.example")).await.is_err());
    let mut named = of(1, "/path");
    named.headers_mut().insert("host", "2.example".parse().unwrap());
    assert!(send(&client, named).await.is_err());
    assert_eq!(api.count(), before);
    send(&client, of(1, "https://1.example")).await.unwrap();
    assert!(api.seen().pop().unwrap().authorization().is_some());
}

/// What the settings refuse is refused whether the request names a tenant or not.
#[tokio::test(start_paused = true)]
async fn f82_the_settings_hold_for_requests_without_a_tenant() {
    use tower_oauth::{ErrorKind, ExistingAuthorization, MissingKey};

    let pool = TokenPool::builder(|_: &u32| Script::tokens(HOUR)).spawn();
    let api = Api::new();
    let layer = OAuthLayer::keyed_with_origins(pool, |_: &u32| None, tenant)
        .missing_key(MissingKey::PassWithoutToken)
        .existing_authorization(ExistingAuthorization::Refuse);
    let client = layer.layer(api.clone());
    let mut request = get("https://1.example/a");
    request.headers_mut().insert("authorization", "Basic abc".parse().unwrap());
    let error = send(&client, request).await.unwrap_err();
    assert_eq!(super::kind(&error), ErrorKind::AuthorizationPresent);
    assert_eq!(api.count(), 0);
    send(&client, get("https://1.example/a")).await.unwrap();
    assert_eq!(api.seen()[0].authorization(), None);
}
