//! Where metadata is looked for, and which of it is believed.

use serde_json::json;
use tower_oauth::{ClientAuth, ClientCredentials, ConfigError, Discovery, ErrorKind};

use crate::fake::{ISSUER, Internet, METADATA, OPENID, TOKEN, fetch, granted, metadata, reply};

fn secret() -> ClientAuth {
    ClientAuth::basic("orders", "hunter2")
}

fn source(discovery: Discovery) -> ClientCredentials {
    ClientCredentials::builder(discovery, secret()).build().unwrap()
}

/// A source whose token request goes over this too.
fn over(internet: &Internet, discovery: Discovery) -> ClientCredentials {
    let builder = ClientCredentials::builder(discovery, secret());
    builder.transport(internet.transport()).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn dsc_01_the_token_endpoint_is_found_and_called() {
    let internet = Internet::with_issuer(&json!({}));
    fetch(&source(internet.discovery())).await.unwrap();
    assert_eq!(internet.urls(), [METADATA, TOKEN]);
    let asked = internet.only(METADATA);
    assert_eq!((asked.method.as_str(), asked.body.as_str()), ("GET", ""));
    assert_eq!(asked.headers["accept"], "application/json");
    assert!(asked.credentials().is_empty());
}

#[tokio::test(start_paused = true)]
async fn dsc_01_the_transport_of_the_grant_is_used_for_the_metadata_too() {
    let internet = Internet::with_issuer(&json!({}));
    fetch(&over(&internet, Discovery::issuer(ISSUER))).await.unwrap();
    assert_eq!(internet.urls(), [METADATA, TOKEN]);
}

/// Cognito answers 400 at the first place, a bucket 403, a single-page application 200 with HTML.
#[tokio::test(start_paused = true)]
async fn f91_dsc_01_whatever_is_no_metadata_leads_to_the_next_place() {
    let internet = Internet::default();
    internet.put(OPENID, metadata(&json!({})));
    internet.put(TOKEN, granted());
    let statuses = [400, 401, 403, 404, 405, 410, 301, 302, 307, 204, 206];
    let pages = [
        "<html>not here</html>",
        "",
        "[]",
        "null",
        "{}",
        r#"{"error":"not_found"}"#,
        r#"{"issuer":null}"#,
    ];
    let pages = pages.map(|page| reply(200, page));
    for first in statuses.map(|status| reply(status, "")).into_iter().chain(pages) {
        internet.put(METADATA, first.clone());
        internet.forget();
        fetch(&source(internet.discovery())).await.unwrap();
        assert_eq!(internet.urls(), [METADATA, OPENID, TOKEN], "{first:?}");
    }
    let huge = reply(200, "x".repeat(2 << 20));
    internet.put(METADATA, huge);
    fetch(&source(internet.discovery())).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dsc_01_a_fault_that_passes_and_a_foreign_issuer_lead_nowhere() {
    let internet = Internet::default();
    internet.put(OPENID, metadata(&json!({})));
    let foreign = metadata(&json!({ "issuer": "https://other.example" }));
    let twice = reply(200, format!(r#"{{"issuer":"{ISSUER}","issuer":"{ISSUER}"}}"#));
    for (first, kind) in [
        (reply(500, ""), ErrorKind::Server),
        (reply(503, ""), ErrorKind::Server),
        (reply(429, ""), ErrorKind::Throttled),
        (reply(408, ""), ErrorKind::Timeout),
        (foreign, ErrorKind::Discovery),
        (twice, ErrorKind::MalformedResponse),
        (None, ErrorKind::Transport),
    ] {
        internet.put(METADATA, first.clone());
        internet.forget();
        let error = fetch(&source(internet.discovery())).await.unwrap_err();
        assert_eq!((error.kind(), internet.urls()), (kind, vec![METADATA.to_owned()]), "{first:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn f91_dsc_01_the_error_names_every_place_what_it_answered_and_the_setting() {
    let internet = Internet::default();
    internet.put(METADATA, reply(403, ""));
    internet.put(OPENID, reply(200, "<html>"));
    let error = fetch(&source(internet.discovery())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Discovery);
    let text = error.to_string();
    let first = format!("{METADATA} answered with status 403");
    let second = format!("{OPENID} answered with no JSON object");
    for part in [&*first, &*second, "metadata_url()"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    // Also where the last place, and not the first, ends the search.
    let foreign = metadata(&json!({ "issuer": "https://other.example" }));
    for (last, kind) in [
        (reply(503, ""), ErrorKind::Server),
        (reply(408, ""), ErrorKind::Timeout),
        (foreign, ErrorKind::Discovery),
        (None, ErrorKind::Transport),
    ] {
        internet.put(OPENID, last);
        let error = fetch(&source(internet.discovery())).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        for part in [&*first, OPENID, "metadata_url()"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
    let long = format!("https://idp.example/{}", "x".repeat(4000));
    let discovery = Discovery::issuer(long).transport(internet.transport());
    let text = fetch(&source(discovery)).await.unwrap_err().to_string();
    assert!(text.len() <= 1024 && text.contains("metadata_url()"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn dsc_01_an_issuer_with_a_path_has_three_places() {
    let internet = Internet::default();
    let issuer = "https://example.com/issuer1/";
    let discovery = Discovery::issuer(issuer).transport(internet.transport());
    let error = fetch(&source(discovery)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Discovery);
    assert_eq!(
        internet.urls(),
        [
            "https://example.com/.well-known/oauth-authorization-server/issuer1",
            "https://example.com/.well-known/openid-configuration/issuer1",
            "https://example.com/issuer1/.well-known/openid-configuration",
        ]
    );
    // The slash that is not in the URL is in the issuer all the same.
    for (found, is_same) in [(issuer, true), ("https://example.com/issuer1", false)] {
        internet.put(
            "https://example.com/issuer1/.well-known/openid-configuration",
            metadata(&json!({ "issuer": found })),
        );
        internet.put(TOKEN, granted());
        let discovery = Discovery::issuer(issuer).transport(internet.transport());
        assert_eq!(fetch(&source(discovery)).await.is_ok(), is_same, "{found}");
    }
}

#[tokio::test(start_paused = true)]
async fn dsc_01_the_place_can_be_told() {
    let internet = Internet::with_issuer(&json!({}));
    internet.put("https://idp.example/about", metadata(&json!({})));
    let discovery = internet.discovery().metadata_url("https://idp.example/about");
    fetch(&source(discovery)).await.unwrap();
    assert_eq!(internet.urls(), ["https://idp.example/about", TOKEN]);
    // Whoever names a host for the metadata trusts it with the endpoints too.
    let elsewhere = json!({ "token_endpoint": "https://10.0.0.1/token" });
    internet.put("https://10.0.0.1/about", metadata(&elsewhere));
    internet.put("https://10.0.0.1/token", granted());
    let discovery = internet.discovery().metadata_url("https://10.0.0.1/about");
    fetch(&source(discovery)).await.unwrap();
    assert_eq!(internet.count("https://10.0.0.1/token"), 1);
}

#[tokio::test(start_paused = true)]
async fn dsc_02_nothing_of_another_issuers_metadata_is_used() {
    let internet = Internet::with_issuer(&json!({ "issuer": "https://idp.example/" }));
    let error = fetch(&source(internet.discovery())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Discovery);
    assert!(!error.is_retryable());
    assert_eq!(internet.urls(), [METADATA]);
}

#[tokio::test(start_paused = true)]
async fn dsc_02_an_issuer_that_is_a_template_needs_an_explicit_word() {
    let template = "https://idp.example/{tenantid}/v2.0";
    let internet = Internet::with_issuer(&json!({ "issuer": template }));
    assert!(fetch(&source(internet.discovery())).await.is_err());
    let overridden = internet.discovery().danger_expect_issuer(template);
    fetch(&source(overridden)).await.unwrap();
    // It takes the place of the issuer, and is as exact.
    let other = internet.discovery().danger_expect_issuer("https://idp.example/{tenant}/v2.0");
    assert!(fetch(&source(other)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn dsc_03_dsc_08_nothing_is_sent_to_an_endpoint_that_is_not_allowed() {
    for bad in [
        json!("http://idp.example/token"),
        json!("/token"),
        json!("https://u:p@idp.example/token"),
        json!([TOKEN]),
        json!("https://127.0.0.1/token"),
        json!("https://[::ffff:10.0.0.1]/token"),
        json!("https://2130706433/token"),
        json!("https://0177.0.0.1/token"),
        json!("https://169.254.169.254/token"),
        json!("http://localhost/token"),
    ] {
        let internet = Internet::with_issuer(&json!({ "token_endpoint": bad }));
        let error = fetch(&source(internet.discovery())).await.unwrap_err();
        let expected =
            if bad.is_array() { ErrorKind::MalformedResponse } else { ErrorKind::Discovery };
        assert_eq!((error.kind(), internet.urls()), (expected, vec![METADATA.to_owned()]), "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn dsc_03_hosts_can_be_listed() {
    let elsewhere = "https://login.example/token";
    let internet = Internet::with_issuer(&json!({ "token_endpoint": elsewhere }));
    internet.put(elsewhere, granted());
    let listed = |hosts: &[&str]| source(internet.discovery().hosts(hosts.iter().copied()));
    assert!(fetch(&listed(&[])).await.is_err());
    assert!(fetch(&listed(&["other.example"])).await.is_err());
    assert_eq!(internet.count(elsewhere), 0);
    fetch(&listed(&["other.example", "login.example"])).await.unwrap();
    fetch(&source(internet.discovery())).await.unwrap();
    assert_eq!(internet.count(elsewhere), 2);
}

#[tokio::test(start_paused = true)]
async fn an_explicit_url_costs_no_metadata() {
    let internet = Internet::with_issuer(&json!({}));
    let source = ClientCredentials::builder(TOKEN, ClientAuth::secret("orders", "hunter2"));
    fetch(&source.transport(internet.transport()).build().unwrap()).await.unwrap();
    assert_eq!(internet.urls(), [TOKEN]);
    assert_eq!(internet.only(TOKEN).credentials(), ["header"]);
}

#[test]
fn a_bad_setting_of_the_discovery_is_found_when_the_grant_is_built() {
    let internet = Internet::default();
    for discovery in [
        Discovery::issuer("http://idp.example"),
        Discovery::issuer("https://idp.example?tenant=a"),
        Discovery::issuer("https://idp.example#a"),
        Discovery::issuer("https://u:hunter2@idp.example"),
        Discovery::issuer("idp.example"),
        Discovery::issuer(""),
        internet.discovery().metadata_url("/metadata"),
        internet.discovery().hosts(["https://idp.example"]),
        internet.discovery().timeout(std::time::Duration::ZERO),
    ] {
        let discovery = discovery.transport(internet.transport());
        let shown = format!("{discovery:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        let error = ClientCredentials::builder(discovery, secret()).build().unwrap_err();
        let is_about_it = matches!(error, ConfigError::Url { .. } | ConfigError::Setting { .. });
        assert!(is_about_it, "{shown}: {error}");
    }
    let plain = Discovery::issuer("http://idp:8080").danger_allow_http();
    let plain = plain.transport(internet.transport());
    assert!(ClientCredentials::builder(plain, secret()).build().is_ok());
}

#[tokio::test(start_paused = true)]
async fn metadata_can_be_read_by_itself() {
    let internet = Internet::with_issuer(&json!({ "service_documentation": "d" }));
    let metadata = internet.discovery().metadata().await.unwrap();
    assert_eq!(metadata.issuer(), ISSUER);
    assert_eq!(metadata.member("service_documentation"), Some(&json!("d")));
    let bad = Discovery::issuer("nowhere").transport(internet.transport());
    assert_eq!(bad.metadata().await.unwrap_err().kind(), ErrorKind::Configuration);
}
