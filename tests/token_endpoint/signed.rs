//! Clients that authenticate with an assertion of their own.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::HeaderValue;
use serde_json::Value;
use tower_oauth::{
    AssertionAudience, AssertionType, ClientAssertion, ClientAuth, ClientCredentials, ConfigError,
    Error, ErrorKind, FetchContext, SecretSource, SigningKey, TokenSet, TokenSource,
    time::{Clock, Moment, SystemClock},
};

use crate::fake::{Fake, Reply, URL, everything, fetch, granted, json, refused};

const ISSUER: &str = "https://as.example";
const SECRET: &str = "a secret of more than thirty-two bytes";

/// RFC 8037 App. A.1.
const KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"one",
    "d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

fn source(fake: &Fake, assertion: ClientAssertion) -> ClientCredentials {
    ClientCredentials::builder(URL, assertion).transport(fake.transport()).build().unwrap()
}

/// Header and claims of an assertion.
fn read(assertion: &str) -> (Value, Value) {
    let mut parts = assertion.split('.').map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap());
    let mut next = || serde_json::from_slice(&parts.next().unwrap()).unwrap();
    (next(), next())
}

#[tokio::test]
async fn jwt_01_jwt_02_trq_06_the_client_is_in_the_assertion_and_the_issuer_its_audience() {
    for (assertion, alg) in [
        (ClientAssertion::private_key("orders", SigningKey::jwk(KEY), ISSUER), "EdDSA"),
        (ClientAssertion::client_secret("orders", SECRET, ISSUER), "HS256"),
    ] {
        let fake = Fake::new([granted()]);
        fetch(&source(&fake, assertion)).await.unwrap();
        let seen = fake.only();
        assert_eq!(seen.header("authorization"), None);
        assert_eq!(seen.param("client_secret"), None);
        assert_eq!(seen.param("client_id").as_deref(), Some("orders"));
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        assert_eq!(seen.param("client_assertion_type").as_deref(), Some(kind));
        let (header, claims) = read(&seen.param("client_assertion").unwrap());
        assert_eq!(header["alg"], alg);
        assert_eq!(header["typ"], "client-authentication+jwt");
        assert_eq!((&claims["iss"], &claims["sub"]), (&"orders".into(), &"orders".into()));
        assert_eq!(claims["aud"], ISSUER);
        let now = SystemClock::new().now().wall;
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let issued = claims["iat"].as_u64().unwrap();
        assert!(now - issued <= 2, "{now} {issued}");
        assert_eq!(claims["exp"].as_u64().unwrap(), issued + 60);
    }
}

#[tokio::test]
async fn jwt_05_every_attempt_has_an_assertion_of_its_own() {
    let fake = Fake::new([refused(503, "temporarily_unavailable"), granted()]);
    let assertion = ClientAssertion::private_key("orders", SigningKey::jwk(KEY), ISSUER);
    let source = source(&fake, assertion);
    for _ in 0..50 {
        let _ = fetch(&source).await;
    }
    let assertions = fake.seen().into_iter().map(|seen| seen.param("client_assertion").unwrap());
    let identifiers: HashSet<_> = assertions
        .map(|assertion| read(&assertion).1["jti"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(identifiers.len(), 50);
    // 96 bits or more.
    assert!(identifiers.iter().all(|jti| BASE64_URL_SAFE_NO_PAD.decode(jti).unwrap().len() >= 12));
}

#[tokio::test]
async fn jwt_04_jwt_06_audience_type_and_lifetime_can_be_what_an_older_server_wants() {
    for (assertion_type, typ) in [(AssertionType::Jwt, Some("JWT")), (AssertionType::Absent, None)]
    {
        let fake = Fake::new([granted()]);
        let assertion = ClientAssertion::private_key("orders", SigningKey::jwk(KEY), ISSUER)
            .assertion_type(assertion_type)
            .audience(AssertionAudience::LegacyTokenEndpoint(URL.into()))
            .lifetime(Duration::from_secs(10));
        fetch(&source(&fake, assertion)).await.unwrap();
        let (header, claims) = read(&fake.only().param("client_assertion").unwrap());
        assert_eq!(header.get("typ").and_then(Value::as_str), typ);
        assert_eq!(claims["aud"], URL);
        assert_eq!(claims["exp"].as_u64(), claims["iat"].as_u64().map(|iat| iat + 10));
    }
}

#[tokio::test]
async fn what_cannot_be_signed_is_found_when_it_is_built() {
    let build = |assertion: ClientAssertion| {
        let fake = Fake::new([granted()]);
        ClientCredentials::builder(URL, assertion).transport(fake.transport()).build()
    };
    let key = || SigningKey::jwk(KEY);
    let error = build(ClientAssertion::private_key("orders", key(), "not a URL")).unwrap_err();
    assert!(matches!(error, ConfigError::Url { .. }), "{error}");
    for seconds in [0, 301] {
        let assertion = ClientAssertion::private_key("orders", key(), ISSUER);
        let error = build(assertion.lifetime(Duration::from_secs(seconds))).unwrap_err();
        assert!(matches!(error, ConfigError::Setting { .. }), "{error}");
    }
    assert!(build(ClientAssertion::private_key("", key(), ISSUER)).is_err());
}

#[tokio::test]
async fn err_06_a_refused_key_that_has_not_changed_is_not_tried_again() {
    let fake = Fake::new([refused(401, "invalid_client")]);
    let key = SecretSource::provider(|| async { Ok(KEY.into()) });
    let assertion = ClientAssertion::private_key("orders", SigningKey::jwk(key), ISSUER);
    let error = fetch(&source(&fake, assertion)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidClient);
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn f57_neither_key_nor_assertion_is_shown() {
    let fake = Fake::new([refused(401, "invalid_client")]);
    let assertion = ClientAssertion::private_key("orders", SigningKey::jwk(KEY), ISSUER);
    let source = source(&fake, assertion);
    fetch(&source).await.unwrap_err();
    let sent = fake.only().param("client_assertion").unwrap();
    // A server that repeats what it got.
    let body = format!(r#"{{"error":"invalid_client","error_description":"bad {sent}"}}"#);
    let shown = format!("{source:?}");
    assert!(shown.contains("orders") && !shown.contains("nWGxne"), "{shown}");

    // Each assertion is new, so the server has to repeat the one of this request.
    let echo = tower::service_fn(|request: http::Request<bytes::Bytes>| async move {
        let form = form_urlencoded::parse(request.body()).into_owned();
        let assertion = form.filter(|(name, _)| name == "client_assertion").map(|(_, value)| value);
        let assertion: String = assertion.collect();
        let body = format!(r#"{{"error":"invalid_client","error_description":"bad {assertion}"}}"#);
        let answer = http::Response::builder().status(401);
        answer.header("content-type", "application/json").body(body)
    });
    let assertion = ClientAssertion::private_key("orders", SigningKey::jwk(KEY), ISSUER);
    let source = ClientCredentials::builder(URL, assertion)
        .transport(tower_oauth::Transport::new(echo))
        .build()
        .unwrap();
    let shown = everything(&fetch(&source).await.unwrap_err());
    assert!(shown.contains("bad [redacted]"), "{shown}");
    let _ = json(401, &body);
}

/// A clock that is wrong by ten minutes.
#[derive(Debug)]
struct Late;

const SERVER_TIME: u64 = 1_700_000_000;
const DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT";

impl Clock for Late {
    fn now(&self) -> Moment {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(SERVER_TIME - 600);
        Moment { boot: Duration::from_secs(1), wall }
    }
}

async fn fetch_late(source: &ClientCredentials) -> Result<TokenSet, Error> {
    let mut cx = FetchContext::first();
    cx.clock = Arc::new(Late);
    source.fetch(cx).await
}

#[expect(clippy::unnecessary_wraps, reason = "as the other replies")]
fn dated(reply: Reply, date: &'static str) -> Reply {
    let mut reply = reply.unwrap();
    reply.headers_mut().insert(http::header::DATE, HeaderValue::from_static(date));
    Some(reply)
}

fn issued_at(fake: &Fake) -> Vec<u64> {
    let assertions = fake.seen().into_iter().map(|seen| seen.param("client_assertion").unwrap());
    assertions.map(|assertion| read(&assertion).1["iat"].as_u64().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn f54_an_assertion_is_dated_by_the_servers_clock_once_it_was_refused() {
    let assertion = || ClientAssertion::private_key("orders", SigningKey::jwk(KEY), ISSUER);
    let refusal = || dated(refused(401, "invalid_client"), DATE);
    let fake = Fake::new([refusal(), granted()]);
    let source = source(&fake, assertion());
    fetch_late(&source).await.unwrap();
    fetch_late(&source).await.unwrap();
    let ours = SERVER_TIME - 600;
    assert_eq!(issued_at(&fake), [ours, SERVER_TIME, SERVER_TIME], "it is remembered");

    // A refusal whose date explains nothing is one, and so is a second one.
    for (reply, expected) in [
        (refusal(), vec![ours, SERVER_TIME]),
        (dated(refused(401, "invalid_client"), "Tue, 14 Nov 2023 22:03:24 GMT"), vec![ours]),
        (dated(refused(401, "invalid_client"), "yesterday"), vec![ours]),
        (refused(401, "invalid_client"), vec![ours]),
        (dated(refused(400, "invalid_scope"), DATE), vec![ours]),
        (dated(refused(503, "server_error"), DATE), vec![ours]),
    ] {
        let fake = Fake::new([reply]);
        fetch_late(&self::source(&fake, assertion())).await.unwrap_err();
        assert_eq!(issued_at(&fake), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn f54_a_secret_is_not_sent_again_for_a_date() {
    let fake = Fake::new([dated(refused(401, "invalid_client"), DATE)]);
    let auth = ClientAuth::basic("orders", SECRET);
    let source = ClientCredentials::builder(URL, auth).transport(fake.transport()).build().unwrap();
    fetch_late(&source).await.unwrap_err();
    fake.only();
}
