//! Assertions for servers that were discovered: for whom they are, and how they are signed.

use serde_json::{Value, json};
use tower_oauth::{
    AssertionAudience, ClientAssertion, ClientAuth, ClientCredentials, ConfigError, Discovery,
    ErrorKind, Introspection, Revocation, SigningKey,
};

use crate::fake::{
    INTROSPECT, ISSUER, Internet, METADATA, REVOKE, TOKEN, fetch, granted, metadata,
};

/// RFC 8037 App. A.1.
const KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"one",
    "d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const SECRET: &str = "a secret of more than thirty-two bytes";

fn assertion(audience: impl Into<AssertionAudience>) -> ClientAssertion {
    ClientAssertion::private_key("orders", SigningKey::jwk(KEY), audience)
}

fn source(discovery: Discovery, auth: impl Into<ClientAuth>) -> ClientCredentials {
    ClientCredentials::builder(discovery, auth).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn jwt_02_jwt_03_the_audience_is_the_issuer_at_every_endpoint() {
    let internet = Internet::with_issuer(&json!({
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "mtls_endpoint_aliases": { "token_endpoint": "https://mtls.example/token" },
    }));
    let auth: ClientAuth = assertion(AssertionAudience::Discovered).into();
    fetch(&source(internet.discovery(), auth.clone())).await.unwrap();
    let revocation = Revocation::builder(internet.discovery(), auth.clone()).build().unwrap();
    revocation.revoke_access_token("a").await.unwrap();
    let introspection = Introspection::builder(internet.discovery(), auth).build().unwrap();
    introspection.introspect("a").await.unwrap();
    let mut identifiers = Vec::new();
    for url in [TOKEN, REVOKE, INTROSPECT] {
        let seen = internet.only(url);
        assert_eq!(seen.credentials(), ["assertion"], "{url}");
        assert_eq!(seen.claims()["aud"], ISSUER, "{url}");
        identifiers.push(seen.claims()["jti"].as_str().unwrap().to_owned());
    }
    identifiers.sort();
    identifiers.dedup();
    assert_eq!(identifiers.len(), 3);
}

/// The attacker's server wants an assertion that is good at the honest one.
#[tokio::test(start_paused = true)]
async fn jwt_03_metadata_cannot_change_the_audience() {
    const EVIL: &str = "https://evil.example";
    let place = format!("{EVIL}/.well-known/oauth-authorization-server");
    let at_evil = |more: &Value| {
        let internet = Internet::default();
        internet.put(&place, metadata(more));
        internet.put(TOKEN, granted());
        let discovery = Discovery::issuer(EVIL).transport(internet.transport());
        (internet, source(discovery, assertion(AssertionAudience::Discovered)))
    };
    // As the honest issuer: nothing of it is used.
    let (internet, grant) = at_evil(&json!({}));
    assert_eq!(fetch(&grant).await.unwrap_err().kind(), ErrorKind::Discovery);
    assert_eq!(internet.urls(), [&*place]);
    // As itself, with the honest token endpoint: the assertion that arrives there is not for it.
    let (internet, grant) = at_evil(&json!({ "issuer": EVIL }));
    fetch(&grant).await.unwrap();
    assert_eq!(internet.only(TOKEN).claims()["aud"], EVIL);
}

#[tokio::test(start_paused = true)]
async fn jwt_03_an_explicit_audience_stays() {
    let internet = Internet::with_issuer(&json!({}));
    fetch(&source(internet.discovery(), assertion("https://tenant.example"))).await.unwrap();
    assert_eq!(internet.only(TOKEN).claims()["aud"], "https://tenant.example");
}

#[test]
fn jwt_03_an_audience_that_cannot_be_known_is_refused_when_it_is_built() {
    let internet = Internet::default();
    let discovered = || assertion(AssertionAudience::Discovered);
    let undiscovered = ClientCredentials::builder(TOKEN, discovered());
    let error = undiscovered.transport(internet.transport()).build().unwrap_err();
    assert!(matches!(error, ConfigError::ClientAuth { .. }), "{error}");
    let template = internet.discovery().danger_expect_issuer("https://idp.example/{tenantid}");
    let error = ClientCredentials::builder(template.clone(), discovered()).build().unwrap_err();
    assert!(matches!(error, ConfigError::ClientAuth { .. }), "{error}");
    let explicit = assertion("https://idp.example/tenant");
    assert!(ClientCredentials::builder(template, explicit).build().is_ok());
}

#[test]
fn jwt_04_a_legacy_audience_needs_a_key_of_its_own() {
    let internet = Internet::default();
    let legacy = |url: &str| AssertionAudience::LegacyTokenEndpoint(url.to_owned());
    let build = |key: &SigningKey, audience: AssertionAudience| {
        let assertion = ClientAssertion::private_key("orders", key.clone(), audience);
        ClientCredentials::builder(TOKEN, assertion).transport(internet.transport()).build()
    };
    let (one, two) = ("https://one.example/token", "https://two.example/token");
    let issuer = AssertionAudience::Issuer(ISSUER.to_owned());
    for (first, second, fits) in [
        (legacy(one), legacy(one), true),
        (legacy(one), legacy(two), false),
        (legacy(one), issuer.clone(), false),
        (issuer.clone(), legacy(one), false),
        (issuer, AssertionAudience::Issuer("https://two.example".to_owned()), true),
    ] {
        let key = SigningKey::jwk(KEY);
        assert!(build(&key, first.clone()).is_ok());
        let outcome = build(&key, second.clone());
        assert_eq!(outcome.is_ok(), fits, "{first:?} {second:?}");
        if let Err(error) = outcome {
            assert!(matches!(error, ConfigError::ClientAuth { .. }), "{error}");
            // What was refused has changed nothing, and another key is another matter.
            assert!(build(&key, first).is_ok());
            assert!(build(&SigningKey::jwk(KEY), second).is_ok());
        }
    }
}

#[test]
fn jwt_04_a_discovered_audience_counts_too() {
    let internet = Internet::default();
    let key = SigningKey::jwk(KEY);
    let with = |audience| ClientAssertion::private_key("orders", key.clone(), audience);
    let discovered = with(AssertionAudience::Discovered);
    assert!(ClientCredentials::builder(internet.discovery(), discovered).build().is_ok());
    let legacy = with(AssertionAudience::LegacyTokenEndpoint("https://two.example/t".to_owned()));
    let legacy = ClientCredentials::builder("https://two.example/t", legacy);
    assert!(legacy.transport(internet.transport()).build().is_err());
}

#[tokio::test(start_paused = true)]
async fn jwt_06_an_algorithm_that_the_server_does_not_take_costs_no_request() {
    let algorithms = |names: &Value| {
        let name = "token_endpoint_auth_signing_alg_values_supported";
        Internet::with_issuer(&json!({ name: names }))
    };
    let shared = ClientAssertion::client_secret("orders", SECRET, ISSUER);
    for (auth, names, taken) in [
        (assertion(ISSUER), json!(["RS256", "EdDSA"]), true),
        (assertion(ISSUER), json!(["Ed25519"]), true),
        (assertion(ISSUER), json!(["RS256", "ES256"]), false),
        (assertion(ISSUER), json!(["none"]), false),
        (assertion(ISSUER), json!([]), false),
        (shared.clone(), json!(["HS256"]), true),
        (shared, json!(["HS512"]), false),
    ] {
        let internet = algorithms(&names);
        let outcome = fetch(&source(internet.discovery(), auth)).await;
        assert_eq!(internet.count(TOKEN), usize::from(taken), "{names}");
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::Configuration, "{names}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn dsc_03_a_malformed_list_fails_only_who_needs_it() {
    let methods = json!({ "token_endpoint_auth_methods_supported": "private_key_jwt" });
    let name = "token_endpoint_auth_signing_alg_values_supported";
    let algorithms = json!({ name: { "ES256": true } });
    let secret = || ClientAuth::secret("orders", "s");
    let signed = || ClientAuth::from(assertion(ISSUER));
    for (members, auth, works) in [
        (&methods, secret(), false),
        (&methods, signed(), true),
        (&algorithms, secret(), true),
        (&algorithms, signed(), false),
    ] {
        let internet = Internet::with_issuer(members);
        let outcome = fetch(&source(internet.discovery(), auth)).await;
        assert_eq!(internet.count(TOKEN), usize::from(works), "{members}");
        let kind = outcome.err().map(|error| error.kind());
        assert_eq!(kind, (!works).then_some(ErrorKind::MalformedResponse), "{members}");
    }
}

#[tokio::test(start_paused = true)]
async fn trq_07_a_key_is_used_before_a_secret_and_the_secret_is_not_even_read() {
    let unread = tower_oauth::SecretSource::provider(|| async { panic!("the secret was read") });
    let held = ClientAuth::any_of([
        ClientAuth::secret("orders", unread),
        assertion(AssertionAudience::Discovered).into(),
    ]);
    let methods = ["client_secret_basic", "client_secret_post", "private_key_jwt"];
    let internet =
        Internet::with_issuer(&json!({ "token_endpoint_auth_methods_supported": methods }));
    fetch(&source(internet.discovery(), held)).await.unwrap();
    assert_eq!(internet.urls(), [METADATA, TOKEN]);
    assert_eq!(internet.only(TOKEN).credentials(), ["assertion"]);
}
