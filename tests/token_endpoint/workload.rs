//! A workload's identity token, in place of a secret.

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tower_oauth::{
    ClientAuth, ClientCredentials, ConfigError, ErrorKind, ExternalAccount, FetchContext, Scopes,
    SecretSource, TokenSource,
    grant::{ExternalAccountOptions, GrantBuilder},
    source::StepUp,
};

use crate::{
    assertions::{jwt, sequence},
    fake::{Fake, Reply, URL, everything, fetch, granted, json, refused},
};

const STS: &str = "https://sts.googleapis.com/v1/token";
const IMPERSONATION: &str = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/\
                             orders@example.iam.gserviceaccount.com:generateAccessToken";
const POOL: &str =
    "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k";
const FEDERATED: &str = r#"{"access_token":"federated-canary","token_type":"Bearer",
    "expires_in":3599,"issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}"#;

/// A file with a workload's token.
struct TokenFile(PathBuf);

impl TokenFile {
    fn new(name: &str, text: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("workload-{name}"));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn configuration(source: Value) -> Value {
    let mut configuration = json!({
        "type": "external_account",
        "audience": POOL,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": STS,
        "service_account_impersonation_url": IMPERSONATION,
        "universe_domain": "googleapis.com",
    });
    configuration["credential_source"] = source;
    configuration
}

fn builder(configuration: &Value, fake: &Fake) -> GrantBuilder<ExternalAccountOptions> {
    ExternalAccount::builder(&configuration.to_string()).unwrap().transport(fake.transport())
}

/// An answer of the impersonation, an hour before the token expires.
fn impersonated() -> Reply {
    let body = r#"{"accessToken":"ya29.impersonated","expireTime":"2026-01-01T01:00:00Z"}"#;
    let mut reply = json(200, body);
    if let Some(answer) = &mut reply {
        let date = "Thu, 01 Jan 2026 00:00:00 GMT".parse().unwrap();
        answer.headers_mut().insert("date", date);
    }
    reply
}

#[tokio::test]
async fn wif_03_google_exchanges_the_files_token_and_impersonates() {
    let token = jwt(600, "system:serviceaccount:orders");
    let file = TokenFile::new("golden", &format!("{token}\n"));
    let fake = Fake::new([json(200, FEDERATED), impersonated()]);
    let source = builder(&configuration(json!({ "file": file.0 })), &fake)
        .scope("https://www.googleapis.com/auth/devstorage.read_only")
        .build()
        .unwrap();
    let got = fetch(&source).await.unwrap();
    assert_eq!(got.access_token().expose(), "ya29.impersonated");
    assert_eq!(got.lifetime(), Some(Duration::from_secs(3600)));
    let scope = "https://www.googleapis.com/auth/devstorage.read_only";
    assert!(got.scopes().unwrap().contains(scope));
    assert!(got.sent_at().is_some());

    let seen = fake.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].target, STS);
    assert_eq!(seen[0].header("authorization"), None);
    assert_eq!(
        seen[0].body,
        format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
             &audience=%2F%2Fiam.googleapis.com%2Fprojects%2F1%2Flocations%2Fglobal\
             %2FworkloadIdentityPools%2Fp%2Fproviders%2Fk\
             &scope=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fcloud-platform\
             &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt\
             &requested_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token\
             &subject_token={token}"
        )
    );
    assert_eq!((seen[1].target.as_str(), seen[1].method.as_str()), (IMPERSONATION, "POST"));
    assert_eq!(seen[1].header("authorization"), Some("Bearer federated-canary"));
    assert!(seen[1].headers["authorization"].is_sensitive());
    assert_eq!(seen[1].header("content-type"), Some("application/json"));
    let body: Value = serde_json::from_str(&seen[1].body).unwrap();
    assert_eq!(body, json!({ "scope": [scope], "lifetime": "3600s" }));
}

#[tokio::test]
async fn wif_03_without_a_service_account_the_exchange_is_all() {
    let file = TokenFile::new("direct", &json!({ "id_token": "opaque" }).to_string());
    let source = json!({
        "file": file.0,
        "format": { "type": "json", "subject_token_field_name": "id_token" },
    });
    let mut configuration = configuration(source);
    configuration["service_account_impersonation_url"] = Value::Null;
    let fake = Fake::new([json(200, FEDERATED)]);
    let source = builder(&configuration, &fake).scopes(["b", "a"]).build().unwrap();
    let got = fetch(&source).await.unwrap();
    assert_eq!(got.access_token().expose(), "federated-canary");
    let seen = fake.only();
    assert_eq!(seen.param("scope").as_deref(), Some("a b"));
    assert_eq!(seen.param("subject_token").as_deref(), Some("opaque"));

    // The member is gone, and then the file.
    std::fs::write(&file.0, json!({ "id_token": 7, "x": "canary" }).to_string()).unwrap();
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential);
    assert!(!everything(&error).contains("canary"), "{error:?}");
    drop(file);
    assert_eq!(fetch(&source).await.unwrap_err().kind(), ErrorKind::Credential);
    fake.only();
}

#[tokio::test]
async fn wif_03_a_client_and_a_project_are_sent_if_the_configuration_has_them() {
    let file = TokenFile::new("workforce", "opaque");
    let mut configuration = configuration(json!({ "file": file.0, "format": { "type": "text" } }));
    configuration["client_id"] = json!("workforce");
    configuration["client_secret"] = json!("hunter2");
    configuration["workforce_pool_user_project"] = json!("project-1");
    configuration["service_account_impersonation"] = json!({ "token_lifetime_seconds": 900 });
    let fake = Fake::new([json(200, FEDERATED), impersonated()]);
    fetch(&builder(&configuration, &fake).build().unwrap()).await.unwrap();
    let seen = fake.seen();
    assert_eq!(seen[0].basic(), Some(("workforce".to_owned(), "hunter2".to_owned())));
    assert_eq!(seen[0].param("options").as_deref(), Some(r#"{"userProject":"project-1"}"#));
    assert!(seen[1].body.contains("\"900s\""), "{}", seen[1].body);
}

/// What an API asks for besides used to be asked of the token service, and not of the account.
#[tokio::test]
async fn stp_02_an_impersonation_asks_for_what_an_api_wants_besides() {
    let file = TokenFile::new("step-up", "opaque");
    let fake = Fake::new([json(200, FEDERATED), impersonated()]);
    let configuration = configuration(json!({ "file": file.0 }));
    let source = builder(&configuration, &fake).scope("read").build().unwrap();
    let mut scopes = Scopes::default();
    scopes.insert("write").unwrap();
    let mut cx = FetchContext::first();
    cx.step_up = StepUp::scopes(scopes);
    let token = source.fetch(cx).await.unwrap();
    let seen = fake.seen();
    assert_eq!(
        seen[0].param("scope").as_deref(),
        Some("https://www.googleapis.com/auth/cloud-platform")
    );
    let asked: Value = serde_json::from_str(&seen[1].body).unwrap();
    assert_eq!(asked["scope"], json!(["read", "write"]));
    assert_eq!(token.scopes().unwrap().to_string(), "read write");
}

#[tokio::test]
async fn wif_04_what_asks_a_url_or_runs_a_program_is_refused() {
    let mark = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("workload-spawned");
    let command = format!("/usr/bin/touch {}", mark.display());
    let file = TokenFile::new("decoy", "opaque");
    for source in [
        json!({ "executable": { "command": command, "timeout_millis": 5000 } }),
        json!({ "executable": { "command": command }, "file": file.0 }),
        json!({ "url": "http://169.254.169.254/metadata/identity/oauth2/token" }),
        json!({ "url": "https://idp.example/token", "file": file.0 }),
        json!({ "environment_id": "aws1", "region_url": "http://169.254.169.254/" }),
        json!({ "certificate": { "use_default_certificate_config": true } }),
    ] {
        let fake = Fake::new([granted()]);
        let configuration = configuration(source);
        let error = builder(&configuration, &fake).build().unwrap_err();
        let shown = error.to_string();
        assert!(shown.contains("credential_source.") && shown.contains("subject_token"), "{shown}");
        assert!(fake.seen().is_empty());

        // The code may say otherwise, not the configuration.
        let fake = Fake::new([json(200, FEDERATED), impersonated()]);
        let own = builder(&configuration, &fake).subject_token("own").build().unwrap();
        fetch(&own).await.unwrap();
        assert_eq!(fake.seen()[0].param("subject_token").as_deref(), Some("own"));
    }
    assert!(!mark.exists());
}

#[tokio::test]
async fn wif_04_the_token_goes_to_allowed_hosts_only() {
    let file = TokenFile::new("allowed", "opaque");
    let foreign = [
        "https://sts.evil.example/v1/token",
        "https://sts.googleapis.com.evil.example/v1/token",
        "https://evil.example/sts.googleapis.com",
        "https://sts.googleapis.com@evil.example/v1/token",
        "https://sts.googleapis.com:8443/v1/token",
        "http://sts.googleapis.com/v1/token",
        "http://169.254.169.254/computeMetadata/v1/",
        "http://127.0.0.1:9/token",
        "file:///etc/passwd",
        "/v1/token",
    ];
    for member in ["token_url", "service_account_impersonation_url"] {
        for url in foreign {
            let mut configuration = configuration(json!({ "file": file.0 }));
            configuration[member] = json!(url);
            let fake = Fake::new([granted()]);
            let error = builder(&configuration, &fake).danger_allow_http().build().unwrap_err();
            assert!(matches!(error, ConfigError::Url { .. }), "{url}: {error}");
            assert!(fake.seen().is_empty());
        }
    }
    let mut configuration = configuration(json!({ "file": file.0 }));
    configuration["token_url"] = json!("https://STS.eu.example:443/v1/token");
    configuration["service_account_impersonation_url"] = json!("https://iam.eu.example:8443/x");
    let fake = Fake::new([json(200, FEDERATED), impersonated()]);
    let source = builder(&configuration, &fake)
        .allow_host("sts.eu.example")
        .allow_host("iam.eu.example:8443")
        .build()
        .unwrap();
    fetch(&source).await.unwrap();
    assert_eq!(fake.seen()[1].target, "https://iam.eu.example:8443/x");
}

#[test]
fn wif_04_a_configuration_that_cannot_be_read_names_the_member_and_no_secret() {
    for (member, value, named) in [
        ("type", json!("service_account"), "type"),
        ("type", Value::Null, "type"),
        ("audience", Value::Null, "audience"),
        ("audience", json!(["canary"]), "audience"),
        ("token_url", json!(""), "token_url"),
        ("subject_token_type", Value::Null, "subject_token_type"),
        ("credential_source", Value::Null, "credential_source"),
        ("credential_source", json!("canary"), "credential_source"),
        ("credential_source", json!({}), "credential_source.file"),
        ("credential_source", json!({ "file": "/f", "format": "json" }), "source.format"),
        (
            "credential_source",
            json!({ "file": "/f", "format": { "type": "json" } }),
            "credential_source.format.subject_token_field_name",
        ),
        ("credential_source", json!({ "file": "/f", "format": { "type": "xml" } }), "format.type"),
        ("client_secret", json!("canary"), "client_id"),
        ("service_account_impersonation", json!({ "token_lifetime_seconds": 0 }), "seconds"),
        ("service_account_impersonation", json!({ "token_lifetime_seconds": "1" }), "seconds"),
    ] {
        let mut configuration = configuration(json!({ "file": "/f" }));
        configuration[member] = value;
        let error = ExternalAccount::builder(&configuration.to_string()).unwrap_err();
        assert!(error.to_string().contains(named), "{member}: {error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
    for text in ["", "canary", "[]", "{\"client_secret\":\"canary\""] {
        let error = ExternalAccount::builder(text).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("canary"), "{error:?}");
    }
}

#[tokio::test]
async fn wif_03_a_refused_or_unreadable_impersonation_is_explained() {
    let denied = r#"{"error":{"code":403,"message":"no federated-canary here","status":"PERMISSION_DENIED"}}"#;
    for (reply, kind, says) in [
        (json(403, denied), ErrorKind::Denied, "workloadIdentityUser"),
        (json(401, "{}"), ErrorKind::Denied, "workloadIdentityUser"),
        (json(429, "{}"), ErrorKind::Throttled, "fewer"),
        (json(503, "{}"), ErrorKind::Server, "failed"),
        (json(200, "{}"), ErrorKind::MalformedResponse, "accessToken"),
        (json(200, r#"{"accessToken":"canary"}"#), ErrorKind::MalformedResponse, "expireTime"),
        (
            json(200, r#"{"accessToken":"canary","expireTime":"canary"}"#),
            ErrorKind::MalformedResponse,
            "expireTime",
        ),
        (
            json(200, r#"{"accessToken":"can ary","expireTime":"2026-01-01T00:00:00Z"}"#),
            ErrorKind::UnusableToken,
            "visible ASCII",
        ),
        (json(200, "canary"), ErrorKind::MalformedResponse, "JSON object"),
        (None, ErrorKind::Transport, "reached"),
    ] {
        let fake = Fake::new([json(200, FEDERATED), reply]);
        let source = builder(&configuration(json!({ "file": "/f" })), &fake)
            .subject_token("subject-canary")
            .build()
            .unwrap();
        let error = fetch(&source).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let shown = everything(&error);
        assert!(shown.contains(says) && !shown.contains("canary"), "{shown}");
        assert_eq!(fake.seen().len(), 2);
    }
    // An instant that has passed says nothing about how long the token lives.
    let past = r#"{"accessToken":"t","expireTime":"2001-01-01T00:00:00Z"}"#;
    let fake = Fake::new([json(200, FEDERATED), json(200, past)]);
    let source = builder(&configuration(json!({ "file": "/f" })), &fake).subject_token("s");
    let got = fetch(&source.build().unwrap()).await.unwrap();
    assert_eq!(got.lifetime(), None);
}

fn with_assertion(fake: &Fake, assertion: impl Into<SecretSource>) -> ClientCredentials {
    ClientCredentials::builder(URL, ClientAuth::assertion("orders", assertion))
        .transport(fake.transport())
        .build()
        .unwrap()
}

#[tokio::test]
async fn wif_02_an_expired_client_assertion_is_not_sent_and_a_refused_one_is_read_again() {
    let (first, second) = (jwt(60, "first"), jwt(60, "second"));
    let fake = Fake::new([granted()]);
    let source = with_assertion(&fake, sequence(&[&jwt(-5, "old"), &first]));
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential);
    assert!(error.is_retryable() && error.to_string().contains("expired"), "{error}");
    assert!(fake.seen().is_empty());
    fetch(&source).await.unwrap();
    assert_eq!(fake.only().param("client_assertion"), Some(first.clone()));

    let fake = Fake::new([refused(401, "invalid_client"), granted()]);
    fetch(&with_assertion(&fake, sequence(&[&first, &second]))).await.unwrap();
    assert_eq!(fake.seen()[1].param("client_assertion"), Some(second));

    // The same one is not sent again.
    let fake = Fake::new([refused(401, "invalid_client")]);
    let error = fetch(&with_assertion(&fake, sequence(&[&first]))).await.unwrap_err();
    assert_eq!(fake.seen().len(), 1);
    assert!(error.to_string().contains("audience"), "{error}");
    assert!(!everything(&error).contains(&first));
}
