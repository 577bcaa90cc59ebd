//! Which authorization server an API takes tokens from.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::advance;
use tower_oauth::{
    ByResource, ClientAuth, ClientCredentials, ConfigError, Discovery, ErrorKind, FetchContext,
    ResourceDiscovery, TokenHandle, TokenSource, middleware::Challenges,
};

use crate::fake::{ISSUER, Internet, METADATA, REVOKE, TOKEN, fetch, granted, metadata, reply};

const API: &str = "https://api.example/orders";
const WELL_KNOWN: &str = "https://api.example/.well-known/oauth-protected-resource/orders";
const ELSEWHERE: &str = "https://about.example/orders";
const PARTNER: &str = "https://partner.example";
const PARTNER_METADATA: &str = "https://partner.example/.well-known/oauth-authorization-server";
const PARTNER_TOKEN: &str = "https://partner.example/token";

fn about(resource: &str, servers: &Value) -> String {
    json!({
        "resource": resource,
        "authorization_servers": servers,
        "scopes_supported": ["orders.read", "orders.admin"],
    })
    .to_string()
}

/// The Internet with an API that names these authorization servers.
fn with_api(servers: &Value) -> Internet {
    let internet = Internet::with_issuer(&json!({}));
    let partner = json!({ "issuer": PARTNER, "token_endpoint": PARTNER_TOKEN });
    internet.put(PARTNER_METADATA, metadata(&partner));
    internet.put(PARTNER_TOKEN, granted());
    internet.put(WELL_KNOWN, reply(200, about(API, servers)));
    internet.put(ELSEWHERE, reply(200, about(API, servers)));
    internet
}

fn resources(internet: &Internet, issuers: &[&str]) -> ResourceDiscovery {
    let issuers = issuers.iter().map(|issuer| Discovery::issuer(*issuer));
    let issuers = issuers.map(|issuer| issuer.transport(internet.transport()));
    ResourceDiscovery::new(issuers).transport(internet.transport())
}

fn grant(issuer: Discovery) -> Result<ClientCredentials, ConfigError> {
    ClientCredentials::builder(issuer, ClientAuth::secret("orders", "s")).resource(API).build()
}

#[tokio::test(start_paused = true)]
async fn dsc_05_the_metadata_of_a_resource_is_found_and_about_just_it() {
    let internet = with_api(&json!([ISSUER]));
    let resources = resources(&internet, &[ISSUER]);
    let api = resources.of_resource(API).await.unwrap();
    assert_eq!((api.resource(), internet.urls()), (API, vec![WELL_KNOWN.to_owned()]));
    for other in
        ["https://api.example/", "https://api.example/orders/", "https://other.example/orders"]
    {
        internet.put(WELL_KNOWN, reply(200, about(other, &json!([ISSUER]))));
        let fresh = resources.clone().timeout(Duration::from_secs(5));
        let error = fresh.of_resource(API).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Discovery, "{other}");
    }
    let absent = resources.of_resource("https://api.example/stock").await.unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::Discovery);
    for bad in ["orders", "http://api.example/orders", "https://api.example/#a"] {
        let error = resources.of_resource(bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn dsc_05_dsc_06_the_metadata_of_a_challenge_is_about_the_url_that_was_asked_for() {
    let internet = with_api(&json!([ISSUER]));
    let resources = resources(&internet, &[ISSUER]);
    let api = resources.of_challenge(API, ELSEWHERE).await.unwrap();
    assert_eq!(api.resource(), API);
    for requested in ["https://api.example/orders/1", "https://api.example/", "https://b.example/"]
    {
        let error = resources.of_challenge(requested, ELSEWHERE).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Discovery, "{requested}");
    }
}

/// The layer leaves it on the answer, and the caller decides what to do.
#[tokio::test(start_paused = true)]
async fn dsc_06_the_place_is_read_from_400_401_and_403_and_asked_only_by_the_caller() {
    let internet = with_api(&json!([ISSUER]));
    let resources = resources(&internet, &[ISSUER]);
    for (status, is_read) in [(400, true), (401, true), (403, true), (404, false), (200, false)] {
        let api = tower::service_fn(move |_: http::Request<()>| async move {
            let challenge =
                format!("Bearer error=\"invalid_request\", resource_metadata=\"{ELSEWHERE}\"");
            let answer = http::Response::builder().status(status);
            answer.header("www-authenticate", challenge).body(())
        });
        let token = tower_oauth::FixedToken::new(tower_oauth::TokenSet::bearer("t").unwrap());
        let tokens = TokenHandle::spawn(token);
        tokens.ready().await.unwrap();
        let layer = tower_oauth::OAuthLayer::new(tokens, "https://api.example".parse().unwrap());
        let service = tower::ServiceBuilder::new().layer(layer).service(api);
        let request = http::Request::get(API).body(()).unwrap();
        let response = tower::ServiceExt::oneshot(service, request).await.unwrap();
        assert_eq!(response.status(), status);
        let challenges = response.extensions().get::<Challenges>();
        let place = challenges.and_then(Challenges::resource_metadata);
        assert_eq!(place, is_read.then_some(ELSEWHERE), "{status}");
        internet.forget();
        if let Some(place) = place {
            let api = resources.of_challenge(API, place).await.unwrap();
            assert!(format!("{:?}", api.authorization_server()).contains(ISSUER));
        }
        let asked = internet.urls();
        assert!(asked.is_empty() || asked == [ELSEWHERE], "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn dsc_06_a_challenge_has_the_metadata_asked_for_again() {
    let internet = with_api(&json!([ISSUER]));
    let resources = resources(&internet, &[ISSUER]);
    for _ in 0..3 {
        resources.of_challenge(API, ELSEWHERE).await.unwrap();
    }
    assert_eq!(internet.count(ELSEWHERE), 1);
    // Another place is asked at once, and what is there is checked as the first.
    resources.of_challenge(API, WELL_KNOWN).await.unwrap();
    assert_eq!(internet.count(WELL_KNOWN), 1);
    let foreign = "https://about.example/stock";
    internet.put(foreign, reply(200, about("https://api.example/stock", &json!([ISSUER]))));
    assert!(resources.of_challenge(API, foreign).await.is_err());
    // And the same place after a minute.
    advance(Duration::from_secs(61)).await;
    resources.of_challenge(API, ELSEWHERE).await.unwrap();
    assert_eq!(internet.count(ELSEWHERE), 2);
}

#[tokio::test(start_paused = true)]
async fn dsc_06_dsc_08_a_place_that_is_not_allowed_is_not_asked() {
    let internet = with_api(&json!([ISSUER]));
    let resources = resources(&internet, &[ISSUER]);
    for place in [
        "http://api.example/metadata",
        "/metadata",
        "https://u:p@api.example/metadata",
        "https://127.0.0.1/metadata",
        "https://[::ffff:10.0.0.1]/metadata",
        "https://2130706433/metadata",
        "https://0x7f.1/metadata",
        "https://169.254.169.254/latest/meta-data",
        "http://169.254.169.254/latest/meta-data",
        "https://localhost/metadata",
    ] {
        let error = resources.of_challenge(API, place).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Discovery, "{place}");
    }
    let narrow = resources.hosts(["docs.example"]);
    assert!(narrow.of_challenge(API, ELSEWHERE).await.is_err());
    assert!(internet.urls().is_empty(), "{:?}", internet.urls());
    assert!(narrow.of_challenge(API, WELL_KNOWN).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn dsc_07_an_api_chooses_among_configured_issuers_only() {
    let internet = with_api(&json!(["https://evil.example", PARTNER, ISSUER]));
    let api = resources(&internet, &[ISSUER, PARTNER]).of_resource(API).await.unwrap();
    assert_eq!(api.authorization_servers().unwrap().len(), 2);
    assert!(format!("{:?}", api.authorization_server().unwrap()).contains(ISSUER));
}

#[tokio::test(start_paused = true)]
async fn dsc_07_nothing_is_sent_to_a_server_that_only_the_api_names() {
    let internet = with_api(&json!(["https://evil.example"]));
    internet.put("https://evil.example/token", granted());
    let source = ByResource::new(resources(&internet, &[ISSUER, PARTNER]), API, grant).unwrap();
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Discovery);
    assert!(error.to_string().contains("https://evil.example"), "{error}");
    assert_eq!(internet.urls(), [WELL_KNOWN]);
}

#[tokio::test(start_paused = true)]
async fn dsc_07_the_token_comes_from_the_server_that_the_api_names_and_is_for_this_api() {
    let internet = with_api(&json!([PARTNER]));
    let source = ByResource::new(resources(&internet, &[ISSUER, PARTNER]), API, grant).unwrap();
    fetch(&source).await.unwrap();
    assert_eq!(internet.urls(), [WELL_KNOWN, PARTNER_METADATA, PARTNER_TOKEN]);
    let asked = internet.only(PARTNER_TOKEN);
    assert_eq!(asked.param("resource").as_deref(), Some(API));
    // Not all that the API knows of.
    assert_eq!(asked.param("scope"), None);
}

/// A refresh token goes to nobody but who gave it, also when the API changes its mind.
#[tokio::test(start_paused = true)]
async fn dsc_07_each_server_sees_only_what_it_gave() {
    let internet = with_api(&json!([PARTNER]));
    let source = ByResource::new(resources(&internet, &[ISSUER, PARTNER]), API, |issuer| {
        let shown = format!("{issuer:?}");
        Ok(tower_oauth::source_fn(move |cx: FetchContext| {
            let given = cx.previous.as_ref().and_then(|token| token.refresh_token());
            assert!(given.is_none_or(|given| given.expose() == shown), "{shown}");
            let token = tower_oauth::TokenSet::bearer("t");
            let token = token.map(|token| token.with_refresh_token(&*shown));
            async move { token }
        }))
    })
    .unwrap();
    let mut cx = FetchContext::first();
    cx.previous = Some(source.fetch(cx.clone()).await.unwrap().into());
    internet.put(WELL_KNOWN, reply(200, about(API, &json!([ISSUER]))));
    advance(Duration::from_secs(3601)).await;
    // With the time of a fetch that begins now.
    let mut later = FetchContext::first();
    later.previous = cx.previous;
    let second = source.fetch(later).await.unwrap();
    assert!(second.refresh_token().unwrap().expose().contains(ISSUER));
}

#[tokio::test(start_paused = true)]
async fn rev_01_what_the_chosen_server_gave_is_revoked_there() {
    let internet = with_api(&json!([ISSUER]));
    let source = ByResource::new(resources(&internet, &[PARTNER, ISSUER]), API, grant).unwrap();
    let tokens = TokenHandle::spawn(source);
    tokens.ready().await.unwrap();
    tokens.shutdown().revoke().await.unwrap();
    assert_eq!(internet.urls(), [WELL_KNOWN, METADATA, TOKEN, REVOKE]);
}

#[test]
fn a_source_that_could_never_work_is_refused_when_it_is_built() {
    let internet = Internet::default();
    let build = |issuers: &[&str], api: &str| {
        ByResource::new(resources(&internet, issuers), api, grant).map(drop)
    };
    assert!(build(&[ISSUER], API).is_ok());
    assert!(matches!(build(&[], API), Err(ConfigError::Setting { .. })));
    assert!(matches!(build(&[ISSUER], "orders"), Err(ConfigError::Url { .. })));
    assert!(matches!(build(&["http://idp.example"], API), Err(ConfigError::Url { .. })));
}

#[tokio::test(start_paused = true)]
async fn dsc_06_an_api_that_names_ever_new_places_is_answered_all_the_same() {
    let internet = with_api(&json!([ISSUER]));
    let resources = resources(&internet, &[ISSUER]);
    for i in 0..300 {
        let place = format!("https://about.example/{i}");
        internet.put(&place, reply(200, about(API, &json!([ISSUER]))));
        resources.of_challenge(API, &place).await.unwrap();
    }
    assert_eq!(internet.seen().len(), 300);
}
