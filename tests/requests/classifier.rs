//! Refusals that only the user knows: by status, by the head of a response, by the caller.

use http::{Request, Response};
use tower::{ServiceExt, service_fn};
use tower_layer::Layer;
use tower_oauth::{CloneRequest, Rejection, TokenHandle, middleware::UsedToken};

use super::{API, HOUR, get, layer, send};
use crate::common::{api::Api, script::Script};

async fn tokens() -> (TokenHandle, Script) {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    (tokens, source)
}

#[tokio::test(start_paused = true)]
async fn f78_a_status_that_the_user_names_is_a_refusal() {
    let www = "www-authenticate";
    for (status, fields, calls) in [
        (419, &[][..], 2),
        (498, &[], 2),
        (403, &[], 2),
        (401, &[], 2),
        (403, &[(www, r#"Bearer realm="api""#)], 2),
        // The challenge says that the token is good.
        (403, &[(www, r#"Bearer error="insufficient_scope", scope="b""#)], 1),
        (401, &[(www, r#"Bearer error="invalid_request""#)], 1),
        (404, &[], 1),
        (500, &[], 1),
    ] {
        let (tokens, source) = tokens().await;
        let api = Api::new();
        api.accept(|_| false).refuse_with(status, fields);
        let layer = layer(&tokens).refused_statuses([401, 403, 419, 498]).replay(CloneRequest);
        let response = send(&layer.layer(api.clone()), get(API)).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!((api.count(), source.count()), (calls, calls), "{status} {fields:?}");
        // Without the option, only the bare 401 would be one, and the token is too young.
        let api = Api::new();
        api.accept(|_| false).refuse_with(status, fields);
        send(&super::layer(&tokens).replay(CloneRequest).layer(api.clone()), get(API))
            .await
            .unwrap();
        assert_eq!(api.count(), 1);
    }
}

/// A service below the layer reads the body, and notes what it found.
#[tokio::test(start_paused = true)]
async fn f78_a_200_whose_body_refuses_is_a_refusal_where_a_service_below_notes_it() {
    #[derive(Clone)]
    struct SessionExpired;
    let (tokens, source) = tokens().await;
    let below = service_fn(|request: Request<String>| async move {
        let expired = request.headers()["authorization"] == "Bearer token-1";
        let body = if expired { r#"{"errorCode":"INVALID_SESSION_ID"}"# } else { "{}" };
        Ok::<_, std::convert::Infallible>(Response::new(body.to_owned()))
    })
    .map_response(|mut response: Response<String>| {
        if response.body().contains("INVALID_SESSION_ID") {
            response.extensions_mut().insert(SessionExpired);
        }
        response
    });
    let layer = layer(&tokens)
        .refused_if(|response| response.extensions.get::<SessionExpired>().is_some())
        .replay(CloneRequest);
    let response = send(&layer.layer(below), get(API)).await.unwrap();
    assert_eq!(response.into_body(), "{}");
    assert_eq!(source.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn f78_the_users_classifier_sees_the_status_and_the_headers() {
    let (tokens, source) = tokens().await;
    let api = Api::new();
    api.accept(|token| token == "Bearer token-2").refuse_with(400, &[("x-error", "expired")]);
    let layer = layer(&tokens)
        .refused_if(|response| response.status == 400 && response.headers.contains_key("x-error"))
        .replay(CloneRequest);
    assert_eq!(send(&layer.layer(api.clone()), get(API)).await.unwrap().status(), 200);
    assert_eq!((api.count(), source.count()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn f79_the_caller_can_reject_the_very_token_that_was_used() {
    let (tokens, source) = tokens().await;
    let client = layer(&tokens).expose_token().layer(Api::new());
    let old = send(&client, get(API)).await.unwrap();
    let used = |response: &Response<String>| {
        response.extensions().get::<UsedToken>().expect("it is exposed").clone()
    };
    assert_eq!(used(&old).epoch(), 1);
    assert!(!format!("{:?}", used(&old)).contains("token-1"));
    tokens.refresh().await.unwrap();
    let new = send(&client, get(API)).await.unwrap();
    assert_eq!(used(&new).epoch(), 2);
    // A refusal that is noticed late does not reach the newer token.
    assert_eq!(used(&old).reject(), Rejection::Superseded);
    assert!(tokens.current().is_some());
    assert_eq!(used(&new).reject(), Rejection::Accepted);
    assert!(tokens.current().is_none());
    assert_eq!(tokens.token().await.unwrap().epoch(), 3);
    assert_eq!(source.count(), 3);
    // By its number too, and not exposed unless asked for.
    let plain = send(&layer(&tokens).layer(Api::new()), get(API)).await.unwrap();
    assert!(plain.extensions().get::<UsedToken>().is_none());
}

#[cfg(feature = "pool")]
#[tokio::test(start_paused = true)]
async fn f78_f79_tenants_have_the_same_options() {
    use tokio::time::sleep;
    use tower_oauth::OAuthLayer;

    use super::secs;

    let pool = tower_oauth::TokenPool::builder(|_: &u32| Script::tokens(HOUR)).spawn();
    let api = Api::new();
    api.accept(|token| token == "Bearer token-2").refuse_with(419, &[]);
    let key = |request: &Request<String>| request.extensions().get::<u32>().copied();
    let client = OAuthLayer::keyed(pool.clone(), API.parse().unwrap(), key)
        .refused_statuses([419])
        .refused_if(|response| response.headers.contains_key("x-error"))
        .expose_token()
        .replay(CloneRequest)
        .layer(api.clone());
    let of = |tenant: u32| {
        let mut request = get(API);
        request.extensions_mut().insert(tenant);
        request
    };
    for tenant in [1, 2] {
        let response = send(&client, of(tenant)).await.unwrap();
        assert_eq!(response.status(), 200);
        let used = response.extensions().get::<UsedToken>().unwrap();
        assert_eq!(used.epoch(), pool.current(&tenant).unwrap().epoch());
        sleep(secs(2)).await;
        assert_eq!(used.reject(), Rejection::Accepted);
        assert!(pool.current(&tenant).is_none());
    }
    assert_eq!(api.count(), 4);
}

/// Vendors have error codes of their own: none that the standards know says that the token is good.
#[tokio::test(start_paused = true)]
async fn f78_an_error_code_of_the_vendors_own_does_not_overrule_the_user() {
    let www = "www-authenticate";
    for (status, challenge, calls) in [
        (403, r#"Bearer error="token_expired""#, 2),
        (401, r#"Bearer error="token_expired""#, 2),
        (403, r#"Bearer error="invalid_token""#, 2),
        (403, r#"Bearer error="insufficient_scope""#, 1),
    ] {
        let (tokens, _) = tokens().await;
        let api = Api::new();
        api.accept(|_| false).refuse_with(status, &[(www, challenge)]);
        let by_status = layer(&tokens).refused_statuses([401, 403]).replay(CloneRequest);
        send(&by_status.layer(api.clone()), get(API)).await.unwrap();
        assert_eq!(api.count(), calls, "{status} {challenge}");
    }
    // What the user's own function says counts for more than any code, unless it panics.
    for (panics, calls) in [(false, 2), (true, 1)] {
        let (tokens, _) = tokens().await;
        let api = Api::new();
        let challenge = r#"Bearer error="insufficient_scope", scope="a""#;
        api.accept(|_| false).refuse_with(403, &[(www, challenge)]);
        let layer = layer(&tokens).refused_if(move |_| {
            assert!(!panics, "as planned");
            true
        });
        send(&layer.replay(CloneRequest).layer(api.clone()), get(API)).await.unwrap();
        assert_eq!(api.count(), calls);
    }
}

#[tokio::test(start_paused = true)]
async fn f78_a_status_of_success_cannot_be_a_refusal() {
    let (tokens, source) = tokens().await;
    let client = layer(&tokens).refused_statuses([200, 204, 302]).layer(Api::new());
    for _ in 0..10 {
        assert_eq!(send(&client, get(API)).await.unwrap().status(), 200);
    }
    assert_eq!(source.count(), 1);
}
