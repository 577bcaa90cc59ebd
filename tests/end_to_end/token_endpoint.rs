//! What the token endpoint is sent, and what becomes of its faults.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header::CACHE_CONTROL};
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tower::{ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_oauth::{
    BoxError, ClientAuth, ClientCredentials, CloneRequest, Error, ErrorKind, OAuthLayer, Origins,
    State, TokenHandle, TokenSource, Transport, testing::Reply,
};

use crate::harness::{Below, Product, client_credentials, get, hyper, ours, server};

const HOUR: Duration = Duration::from_secs(3600);

with_each_client!(
    err_07_a_token_endpoint_that_the_layer_may_reach_is_not_authenticated_to_by_it,
    f04_a_connection_that_breaks_is_an_error_that_passes_and_the_token_stays,
    f04_a_pooled_connection_that_died_meanwhile_is_no_error,
);

/// The token endpoint refuses the client, on an origin that the layer sends tokens to.
async fn err_07_a_token_endpoint_that_the_layer_may_reach_is_not_authenticated_to_by_it(
    below: Below,
) {
    let server = server(HOUR).await;
    server.always(Reply::status(401).header("www-authenticate", r#"Bearer error="invalid_token""#));
    let origin: Origins = server.url().parse().unwrap();
    let own_client = Transport::new(hyper());
    for source in [
        client_credentials(&server),
        ClientCredentials::builder(server.token_endpoint(), ClientAuth::post("orders", "s3cr3t"))
            .transport(own_client)
            .build()
            .unwrap(),
    ] {
        server.reset_ledger();
        let tokens = TokenHandle::spawn(source);
        let stack =
            below.under(OAuthLayer::new(tokens.clone(), origin.clone()).replay(CloneRequest));
        for _ in 0..20 {
            let error = get(&stack, server.url()).await.unwrap_err();
            assert_eq!(ours(&error).kind(), ErrorKind::InvalidClient);
        }
        let requests = server.requests();
        assert_eq!(requests.len(), 1, "the token request, and nothing else");
        assert_eq!(requests[0].bearer(), None);
        assert_eq!(tokens.status().state(), State::Failed);
    }
}

/// A transport that must not be: it passes through the layer that its tokens are for.
#[tokio::test]
async fn err_07_a_transport_through_its_own_layer_ends_in_time_and_sends_nothing() {
    let server = server(HOUR).await;
    let origin: Origins = server.url().parse().unwrap();
    let stack = Arc::new(Mutex::new(None));
    let looped = Transport::new({
        let stack = stack.clone();
        service_fn(move |request: Request<Full<Bytes>>| {
            let stack = stack.lock().unwrap().clone();
            let stack: tower_oauth::OAuth<_, _> = stack.expect("it is set before the first fetch");
            ServiceExt::oneshot(stack, request)
        })
    });
    let auth = ClientAuth::post("orders", "s3cr3t");
    let source = ClientCredentials::builder(server.token_endpoint(), auth)
        .transport(looped)
        .timeout(Duration::from_millis(200))
        .build()
        .unwrap();
    let (tokens, refresher) = TokenHandle::pair(source);
    let layer = OAuthLayer::new(tokens.clone(), origin).replay(CloneRequest);
    *stack.lock().unwrap() = Some(ServiceBuilder::new().layer(layer).service(hyper()));
    tokio::spawn(refresher);
    let error = timeout(Duration::from_secs(5), tokens.refresh()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(server.requests().len(), 0);
}

async fn f04_a_connection_that_breaks_is_an_error_that_passes_and_the_token_stays(below: Below) {
    let whole = json!({ "access_token": "t", "token_type": "Bearer" }).to_string();
    let mut cases = JoinSet::new();
    for fault in [
        Reply::reset(),
        Reply::honest().then_reset_before_answer(),
        Reply::raw("HTTP/1.1 200 OK\r\ncontent-le").reset_after(20),
        Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"),
        Reply::json(200, json!({})).body(whole.clone()).reset_after(0),
        Reply::json(200, json!({})).body(whole.clone()).reset_after(1),
        Reply::json(200, json!({})).body(whole.clone()).reset_after(whole.len() - 1),
        Reply::json(200, json!({})).body(whole.clone()).content_length_lie(whole.len() + 1),
    ] {
        cases.spawn(async move {
            let product = Product::start(HOUR).await;
            let stack = product.stack(below);
            let first = product.current();
            let what = format!("{fault:?}");
            product.server.script(fault);
            let error = product.tokens.refresh().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Transport, "{what}: {error:?}");
            assert!(error.is_retryable());
            // Not sent twice behind our back: the first one may have been acted upon.
            assert_eq!(product.server.token_request_count(), 2, "{what}");
            assert_eq!(product.current(), first, "{what}");
            assert_eq!(product.get(&stack).await.unwrap(), 200);
            assert_eq!(product.api.requests()[0].bearer(), Some(&*first));

            product.tokens.refresh().await.unwrap();
            assert_ne!(product.current(), first, "{what}");
            assert_eq!(product.get(&stack).await.unwrap(), 200);
        });
    }
    cases.join_all().await;
}

async fn f04_a_pooled_connection_that_died_meanwhile_is_no_error(below: Below) {
    let product = Product::start(HOUR).await;
    let stack = product.stack(below);
    for fetches in 2..4 {
        product.server.stop().await;
        product.server.resume().unwrap();
        product.tokens.refresh().await.unwrap();
        assert_eq!(product.server.token_request_count(), fetches);
        assert_eq!(product.get(&stack).await.unwrap(), 200);
    }
    assert_eq!(product.events.count("failed"), 0);
}

#[tokio::test]
async fn f15_a_redirect_of_a_token_request_reaches_no_other_server() {
    let mut cases = JoinSet::new();
    for status in [301, 302, 303, 307, 308] {
        cases.spawn(async move {
            let (product, elsewhere) = (Product::start(HOUR).await, server(HOUR).await);
            let first = product.current();
            let location = elsewhere.token_endpoint();
            product.server.script(Reply::status(status).header("location", &location));
            let error = product.tokens.refresh().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::MalformedResponse);
            let text = error.to_string();
            assert!(text.contains(&status.to_string()) && !text.contains(&location), "{text}");
            assert_eq!((elsewhere.requests().len(), product.server.token_request_count()), (0, 2));
            assert_eq!(product.current(), first);
        });
    }
    cases.join_all().await;
}

/// A client with a cache as careless as it may be: it keeps every answer, unless the request says
/// `no-store`.
fn cached() -> BoxCloneSyncService<Request<Full<Bytes>>, Response<Full<Bytes>>, BoxError> {
    let (client, kept) = (hyper(), Arc::new(Mutex::new(None::<Response<Full<Bytes>>>)));
    BoxCloneSyncService::new(service_fn(move |request: Request<Full<Bytes>>| {
        let (client, kept) = (client.clone(), kept.clone());
        async move {
            let may_keep = request.headers().get(CACHE_CONTROL).is_none_or(|v| v != "no-store");
            let found = kept.lock().unwrap().clone();
            if let Some(response) = found.filter(|_| may_keep) {
                return Ok(response);
            }
            let (parts, body) = client.oneshot(request).await?.into_parts();
            let body = Full::new(body.collect().await?.to_bytes());
            let response = Response::from_parts(parts, body);
            if may_keep {
                *kept.lock().unwrap() = Some(response.clone());
            }
            Ok(response)
        }
    }))
}

#[tokio::test]
async fn tls_04_token_requests_are_never_served_from_a_cache() {
    let server = server(HOUR).await;
    server.always(Reply::honest().header("cache-control", "max-age=3600, public"));
    // The cache would keep another client's request.
    let client = cached();
    let get = || Request::get(server.url()).body(Full::default()).unwrap();
    for _ in 0..2 {
        client.clone().oneshot(get()).await.unwrap();
    }
    assert_eq!(server.requests().len(), 1);
    server.reset_ledger();

    let auth = ClientAuth::basic("orders", "s3cr3t");
    let through_the_cache = ClientCredentials::builder(server.token_endpoint(), auth)
        .transport(Transport::new(client))
        .build()
        .unwrap();
    for source in [client_credentials(&server), through_the_cache] {
        server.reset_ledger();
        let first = fetch(&source).await.unwrap();
        assert_ne!(fetch(&source).await.unwrap(), first);
        let requests = server.token_requests();
        assert_eq!(requests.len(), 2);
        assert!(requests.iter().all(|request| request.header("cache-control") == Some("no-store")));
    }
}

async fn fetch(source: &ClientCredentials) -> Result<String, Error> {
    let token = source.fetch(tower_oauth::FetchContext::first()).await?;
    Ok(token.access_token().expose().to_owned())
}

/// Nothing of this takes long: each wait of the crate ends when what it waits for is there.
#[tokio::test]
async fn a_request_at_start_waits_no_longer_than_the_token_takes() {
    let server = server(HOUR).await;
    server.script(Reply::honest().delay(Duration::from_millis(200)));
    let start = Instant::now();
    let product = Product::with(server.clone(), client_credentials(&server)).await;
    assert_eq!(product.get(&product.stack(Below::Hyper)).await.unwrap(), 200);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}
