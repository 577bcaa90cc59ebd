//! How often metadata is asked for.

use std::time::Duration;

use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{advance, timeout},
};
use tower_oauth::{ClientAuth, ClientCredentials, Discovery, ErrorKind};

use crate::fake::{Internet, METADATA, TOKEN, fetch, granted, metadata, reply, with_header};

const SECOND: Duration = Duration::from_secs(1);

fn source(discovery: &Discovery) -> ClientCredentials {
    ClientCredentials::builder(discovery, ClientAuth::basic("orders", "s")).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn dsc_04_a_thousand_callers_make_one_request() {
    let internet = Internet::with_issuer(&json!({}));
    let discovery = internet.discovery();
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        let source = source(&discovery);
        callers.spawn(async move { fetch(&source).await.map(drop) });
    }
    callers.join_all().await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!((internet.count(METADATA), internet.count(TOKEN)), (1, 1000));
}

#[tokio::test(start_paused = true)]
async fn dsc_04_a_thousand_callers_share_one_failure() {
    let internet = Internet::default();
    internet.put(METADATA, reply(503, ""));
    let discovery = internet.discovery();
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        let discovery = discovery.clone();
        callers.spawn(async move { discovery.metadata().await.unwrap_err().kind() });
    }
    assert!(callers.join_all().await.iter().all(|kind| *kind == ErrorKind::Server));
    assert_eq!(internet.count(METADATA), 1);
    // Whoever comes later asks again.
    assert!(discovery.metadata().await.is_err());
    internet.put(METADATA, metadata(&json!({})));
    assert!(discovery.metadata().await.is_ok());
    assert_eq!(internet.count(METADATA), 3);
}

#[tokio::test(start_paused = true)]
async fn dsc_04_a_caller_that_goes_away_leaves_the_request_to_another() {
    let internet = Internet::with_issuer(&json!({}));
    let discovery = internet.discovery();
    let impatient = timeout(Duration::from_millis(5), discovery.metadata());
    let (first, second) = tokio::join!(impatient, discovery.metadata());
    assert!(first.is_err());
    assert!(second.is_ok());
    assert_eq!(internet.count(METADATA), 2);
}

#[tokio::test(start_paused = true)]
async fn dsc_04_a_copy_is_kept_as_long_as_the_server_says_within_limits() {
    for (header, life) in [
        ("max-age=0", 60),
        ("no-store", 60),
        ("max-age=600", 600),
        ("public", 3600),
        ("max-age=1000000000", 86400),
    ] {
        let internet = Internet::default();
        let fresh = with_header(metadata(&json!({})), "cache-control", header);
        internet.put(METADATA, fresh);
        let discovery = internet.discovery();
        discovery.metadata().await.unwrap();
        advance(SECOND * (life - 1)).await;
        discovery.metadata().await.unwrap();
        assert_eq!(internet.count(METADATA), 1, "{header}");
        advance(SECOND * 2).await;
        discovery.metadata().await.unwrap();
        assert_eq!(internet.count(METADATA), 2, "{header}");
    }
}

#[tokio::test(start_paused = true)]
async fn dsc_04_a_stale_copy_survives_what_it_could_not_be_renewed_by() {
    let foreign = metadata(&json!({ "issuer": "https://evil.example" }));
    for failure in [None, reply(500, ""), reply(404, ""), reply(200, "<html>"), foreign] {
        let internet = Internet::with_issuer(&json!({}));
        let discovery = internet.discovery();
        let source = source(&discovery);
        fetch(&source).await.unwrap();
        internet.put(METADATA, failure.clone());
        internet.forget();
        advance(SECOND * 3601).await;
        fetch(&source).await.unwrap();
        assert!(discovery.last_error().is_some(), "{failure:?}");
        // Not again at once, but after a minute.
        let asked = internet.count(METADATA);
        advance(SECOND * 58).await;
        fetch(&source).await.unwrap();
        assert_eq!(internet.count(METADATA), asked, "{failure:?}");
        advance(SECOND * 3).await;
        fetch(&source).await.unwrap();
        assert_eq!((internet.count(METADATA), internet.count(TOKEN)), (asked * 2, 3));

        internet.put(METADATA, metadata(&json!({ "token_endpoint": "https://idp.example/new" })));
        internet.put("https://idp.example/new", granted());
        advance(SECOND * 61).await;
        fetch(&source).await.unwrap();
        assert_eq!(internet.count("https://idp.example/new"), 1);
        assert!(discovery.last_error().is_none());
    }
}

/// Whoever renews it is waited for by nobody.
#[tokio::test(start_paused = true)]
async fn dsc_04_a_stale_copy_serves_while_it_is_renewed() {
    let internet = Internet::with_issuer(&json!({}));
    let discovery = internet.discovery();
    discovery.metadata().await.unwrap();
    advance(SECOND * 3601).await;
    let renewing = discovery.clone();
    let renewal = tokio::spawn(async move { renewing.metadata().await.map(drop) });
    tokio::task::yield_now().await;
    assert_eq!(internet.count(METADATA), 2);
    assert!(timeout(Duration::from_millis(1), discovery.metadata()).await.is_ok());
    renewal.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn dsc_04_an_endpoint_that_has_moved_is_looked_up_again() {
    for gone in [None, reply(404, "")] {
        let internet = Internet::with_issuer(&json!({}));
        let source = source(&internet.discovery());
        fetch(&source).await.unwrap();
        internet.put(TOKEN, gone.clone());
        internet.put(METADATA, metadata(&json!({ "token_endpoint": "https://idp.example/new" })));
        internet.put("https://idp.example/new", granted());
        // Too young to have changed.
        for _ in 0..3 {
            assert!(fetch(&source).await.is_err());
        }
        assert_eq!(internet.count(METADATA), 1);
        advance(SECOND * 61).await;
        assert!(fetch(&source).await.is_err());
        fetch(&source).await.unwrap();
        assert_eq!(internet.count(METADATA), 2, "{gone:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn dsc_04_a_setting_does_not_share_the_copy_of_what_was_set_before() {
    let internet = Internet::with_issuer(&json!({ "token_endpoint": "https://login.example/t" }));
    let discovery = internet.discovery();
    assert!(discovery.metadata().await.is_ok());
    let narrow = discovery.clone().hosts(["other.example"]);
    let kind = tower_oauth::discovery::EndpointKind::Token;
    assert!(narrow.metadata().await.unwrap().endpoint(kind).is_err());
    assert!(discovery.metadata().await.unwrap().endpoint(kind).is_ok());
}

#[tokio::test(start_paused = true)]
async fn f06_a_server_that_throttles_says_until_when() {
    let internet = Internet::default();
    internet.put(METADATA, with_header(reply(429, ""), "retry-after", "7"));
    let error = fetch(&source(&internet.discovery())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    let wait = error.retry_at().unwrap().saturating_duration_since(tokio::time::Instant::now());
    assert_eq!(wait, SECOND * 7);
}
