//! The FAPI 2.0 switch: what is weaker than the profile is refused, by the clause it breaks. And
//! keys for proofs.

use serde_json::json;
use tower_oauth::{
    AssertionAudience, ClientAssertion, ClientAuth, ClientCredentials, ConfigError, Discovery,
    DpopAlgorithm, DpopKey, ErrorKind, SigningAlgorithm, SigningKey, discovery::EndpointSource,
};

use crate::fake::{ISSUER, Internet, TOKEN, fetch, reply};

/// RFC 8037 App. A.1.
const KEY: &str = r#"{"kty":"OKP","crv":"Ed25519",
    "d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

fn key() -> DpopKey {
    DpopKey::generate(DpopAlgorithm::Es256).unwrap()
}

fn assertion(key: SigningKey) -> ClientAssertion {
    ClientAssertion::private_key("orders", key, AssertionAudience::Discovered)
}

fn strong() -> ClientAuth {
    assertion(SigningKey::jwk(KEY)).into()
}

fn clause(outcome: Result<ClientCredentials, ConfigError>) -> &'static str {
    match outcome {
        Err(ConfigError::Fapi { clause, .. }) => clause,
        outcome => panic!("{outcome:?}"),
    }
}

/// With everything as the profile wants it, but for what is given here.
fn build(
    at: impl Into<EndpointSource>,
    auth: impl Into<ClientAuth>,
) -> Result<ClientCredentials, ConfigError> {
    ClientCredentials::builder(at, auth).dpop(key()).fapi2().build()
}

#[test]
fn fap_01_each_clause_that_a_configuration_breaks_is_named() {
    let discovery = || Discovery::issuer(ISSUER);
    assert!(build(discovery(), strong()).is_ok());

    let weak = [
        ClientAuth::basic("orders", "secret"),
        ClientAuth::post("orders", "secret"),
        ClientAuth::secret("orders", "secret"),
        ClientAuth::any_of([strong(), ClientAuth::basic("orders", "secret")]),
        ClientAssertion::client_secret("orders", "s".repeat(32), AssertionAudience::Discovered)
            .into(),
    ];
    for auth in weak {
        assert!(clause(build(discovery(), auth)).contains("client authentication"));
    }

    let elsewhere = ClientCredentials::builder(discovery(), strong()).dpop(key()).fapi2();
    let elsewhere = elsewhere.revocation_endpoint("https://idp.example/revoke");
    assert!(clause(elsewhere.build()).contains("metadata"));

    let unbound = ClientCredentials::builder(discovery(), strong()).fapi2();
    assert!(clause(unbound.build()).contains("sender-constrained"));
    let unbound = ClientCredentials::builder(discovery(), strong()).danger_dpop_or_bearer(key());
    assert!(clause(unbound.fapi2().build()).contains("sender-constrained"));

    let explicit = ClientAssertion::private_key("orders", SigningKey::jwk(KEY), ISSUER);
    assert!(build(discovery(), explicit).is_ok());
    assert!(clause(build("https://as.example/token", strong())).contains("metadata"));
    for audience in
        [AssertionAudience::LegacyTokenEndpoint(TOKEN.to_owned()), "https://other.example".into()]
    {
        let auth = ClientAssertion::private_key("orders", SigningKey::jwk(KEY), audience);
        assert!(clause(build(discovery(), auth)).contains("aud claim"));
    }

    let other = discovery().danger_expect_issuer("https://other.example");
    assert!(clause(build(other, strong())).contains("issuer URL"));
    assert!(clause(build(discovery().danger_allow_http(), strong())).contains("TLS"));
    let plain = ClientCredentials::builder(discovery(), strong()).dpop(key()).danger_allow_http();
    assert!(clause(plain.fapi2().build()).contains("TLS"));
}

#[test]
fn fap_02_other_algorithms_are_refused() {
    for (algorithm, allowed) in [
        (SigningAlgorithm::Rs256, false),
        (SigningAlgorithm::Es384, false),
        (SigningAlgorithm::Ps256, true),
        (SigningAlgorithm::Es256, true),
        (SigningAlgorithm::EdDsa, true),
    ] {
        let auth = assertion(SigningKey::pem("not read yet", algorithm));
        let outcome = build(Discovery::issuer(ISSUER), auth);
        if allowed {
            assert!(outcome.is_ok(), "{algorithm:?}");
        } else {
            assert!(clause(outcome).contains("PS256"), "{algorithm:?}");
        }
    }
}

/// A JWK names its algorithm, and is read only when it is needed.
#[tokio::test(start_paused = true)]
async fn fap_02_a_key_for_another_algorithm_signs_nothing() {
    const P384: &str = r#"{"kty":"EC","crv":"P-384","x":"eQbMauiHc9HuiqXT894gW5XTCrOpeY8cjLXAckfRtdVBLzVHKaiXAAxBFeVrSB75","y":"YOjxhMkdH9QnNmGCGuGXJrjAtk8CQ1kTmEEi9cg2R9ge-zh8SFT1Xu6awoUjK5Bv","d":"TXghMAGVFNTFGLyYcIuB-Xy6_u_Ty0t_pPA6L1Sx6s5TPRLoXpJqEYYMKWxkqzrx"}"#;
    for offered in
        [json!({}), json!({ "token_endpoint_auth_signing_alg_values_supported": ["ES384"] })]
    {
        let internet = Internet::with_issuer(&offered);
        let source = build(internet.discovery(), assertion(SigningKey::jwk(P384))).unwrap();
        let error = fetch(&source).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        assert_eq!(internet.count(TOKEN), 0);
    }
    let internet = Internet::with_issuer(&json!({
        "token_endpoint_auth_signing_alg_values_supported": ["RS256", "EdDSA"],
    }));
    internet.put(TOKEN, reply(200, r#"{"access_token":"t","token_type":"DPoP"}"#));
    fetch(&build(internet.discovery(), strong()).unwrap()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dpo_13_a_key_whose_proofs_the_server_does_not_take_is_not_used() {
    for (offered, allowed) in [
        (json!({}), true),
        (json!({ "dpop_signing_alg_values_supported": ["EdDSA", "ES256"] }), true),
        (json!({ "dpop_signing_alg_values_supported": ["EdDSA"] }), false),
        (json!({ "dpop_signing_alg_values_supported": [] }), false),
    ] {
        let internet = Internet::with_issuer(&offered);
        internet.put(TOKEN, reply(200, r#"{"access_token":"t","token_type":"DPoP"}"#));
        let outcome = fetch(&build(internet.discovery(), strong()).unwrap()).await;
        if allowed {
            outcome.unwrap();
        } else {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Configuration);
        }
        assert_eq!(internet.count(TOKEN), usize::from(allowed), "{offered}");
    }
}
