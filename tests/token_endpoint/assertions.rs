//! Grants that trade a credential of somebody else's making: JWT, SAML, token exchange, a file.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use tower_oauth::{
    ClientAuth, ConfigError, ErrorKind, FileToken, JwtBearer, Saml2Bearer, Secret, SecretSource,
    TokenExchange,
    time::{Clock, SystemClock},
};

use crate::fake::{Fake, URL, everything, fetch, granted, json, refused};

/// An unsigned JWT that expires in so many seconds.
pub(crate) fn jwt(expires_in: i64, subject: &str) -> String {
    let now = SystemClock::new().now().wall.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let expiry = i64::try_from(now.as_secs()).unwrap() + expires_in;
    let claims = format!(r#"{{"sub":"{subject}","exp":{expiry}}}"#);
    format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims))
}

/// A credential that is replaced by the next one each time it is read; the last one stays.
pub(crate) fn sequence(values: &[&str]) -> SecretSource {
    let values: Arc<Mutex<Vec<String>>> =
        Arc::new(Mutex::new(values.iter().rev().map(|value| (*value).to_owned()).collect()));
    SecretSource::provider(move || {
        let mut values = values.lock().unwrap();
        let next = if values.len() > 1 { values.pop() } else { values.last().cloned() };
        let secret = Secret::from(next.unwrap());
        async move { Ok(secret) }
    })
}

fn jwt_bearer(fake: &Fake, assertion: impl Into<SecretSource>) -> JwtBearer {
    JwtBearer::builder(URL, ClientAuth::anonymous(), assertion)
        .scope("a")
        .transport(fake.transport())
        .build()
        .unwrap()
}

#[tokio::test]
async fn jwt_07_trq_06_an_assertion_alone_is_sent_and_a_new_one_each_time() {
    let answer = r#"{"access_token":"t","token_type":"Bearer","refresh_token":"r"}"#;
    let fake = Fake::new([json(200, answer)]);
    let (first, second) = (jwt(60, "first"), jwt(60, "second"));
    let source = jwt_bearer(&fake, sequence(&[&first, &second]));
    for _ in 0..2 {
        assert!(fetch(&source).await.unwrap().refresh_token().is_none());
    }
    let seen = fake.seen();
    let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
    assert_eq!(seen[0].body, format!("grant_type={grant}&scope=a&assertion={first}"));
    assert_eq!(seen[1].param("assertion"), Some(second));
    assert_eq!(seen[0].header("authorization"), None);
}

#[tokio::test]
async fn jwt_07_a_client_authenticates_if_it_is_told_to() {
    let fake = Fake::new([granted()]);
    let source = JwtBearer::builder(URL, ClientAuth::basic("id", "s"), jwt(60, "x"))
        .transport(fake.transport())
        .build()
        .unwrap();
    fetch(&source).await.unwrap();
    assert_eq!(fake.only().basic(), Some(("id".to_owned(), "s".to_owned())));
}

#[tokio::test]
async fn wif_02_an_expired_assertion_is_not_sent_and_the_failure_is_not_kept() {
    let fake = Fake::new([granted()]);
    let source = jwt_bearer(&fake, sequence(&[&jwt(-5, "old"), &jwt(60, "new")]));
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential);
    assert!(error.is_retryable());
    assert!(fake.seen().is_empty());
    fetch(&source).await.unwrap();
}

#[tokio::test]
async fn wif_02_a_refused_assertion_is_read_again_and_another_one_tried_once() {
    for code in ["invalid_grant", "invalid_client"] {
        let fake = Fake::new([refused(400, code), granted()]);
        let (first, second) = (jwt(60, "first"), jwt(60, "second"));
        fetch(&jwt_bearer(&fake, sequence(&[&first, &second]))).await.unwrap();
        assert_eq!(fake.seen().len(), 2, "{code}");

        let fake = Fake::new([refused(400, code)]);
        let error = fetch(&jwt_bearer(&fake, sequence(&[&first]))).await.unwrap_err();
        assert!(error.needs_user());
        assert_eq!(fake.seen().len(), 1, "{code}: the same assertion is not sent twice");

        let fake = Fake::new([refused(400, code)]);
        fetch(&jwt_bearer(&fake, first.clone())).await.unwrap_err();
        assert_eq!(fake.seen().len(), 1, "{code}");
    }
}

#[tokio::test]
async fn f57_an_assertion_that_comes_back_is_cut_out() {
    let assertion = jwt(60, "x");
    let body = format!(r#"{{"error":"invalid_grant","error_description":"bad {assertion}"}}"#);
    let fake = Fake::new([json(400, &body)]);
    let error = fetch(&jwt_bearer(&fake, assertion.clone())).await.unwrap_err();
    let shown = everything(&error);
    assert!(shown.contains("bad [redacted]") && !shown.contains(&assertion), "{shown}");
}

#[tokio::test]
async fn jwt_08_saml_is_sent_as_unpadded_base64url_in_one_line() {
    let xml = "<Assertion ID=\"1\">\n  ÿÿÿ?>~~ü\n</Assertion>";
    let fake = Fake::new([granted()]);
    let source = Saml2Bearer::builder(URL, ClientAuth::post("id", "s"), xml)
        .transport(fake.transport())
        .build()
        .unwrap();
    fetch(&source).await.unwrap();
    let seen = fake.only();
    let grant = "urn:ietf:params:oauth:grant-type:saml2-bearer";
    assert_eq!(seen.param("grant_type").as_deref(), Some(grant));
    let sent = seen.param("assertion").unwrap();
    assert!(sent.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{sent}");
    assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(sent).unwrap(), xml.as_bytes());
    assert!(!format!("{source:?}").contains("Assertion ID"));
}

const EXCHANGED: &str = r#"{"access_token":"t","token_type":"Bearer","expires_in":60,
    "issued_token_type":"urn:ietf:params:oauth:token-type:access_token","refresh_token":"r"}"#;

#[tokio::test]
async fn tex_01_subject_and_actor_are_sent_with_their_types_and_targets_repeat() {
    let fake = Fake::new([json(200, EXCHANGED)]);
    let source =
        TokenExchange::builder(URL, ClientAuth::anonymous(), "subject", TokenExchange::JWT)
            .actor_token("actor", TokenExchange::ACCESS_TOKEN)
            .requested_token_type(TokenExchange::ACCESS_TOKEN)
            .resource("https://one.example")
            .resource("https://two.example")
            .audience("three")
            .audience("four")
            .transport(fake.transport())
            .build()
            .unwrap();
    assert!(fetch(&source).await.unwrap().refresh_token().is_none());
    let seen = fake.only();
    let expected = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", "subject"),
        ("subject_token_type", TokenExchange::JWT),
        ("actor_token", "actor"),
        ("actor_token_type", TokenExchange::ACCESS_TOKEN),
        ("requested_token_type", TokenExchange::ACCESS_TOKEN),
    ];
    for (name, value) in expected {
        assert_eq!(seen.param(name).as_deref(), Some(value), "{name}");
    }
    let all = |name: &str| {
        let of_name = |(known, value): (String, String)| (known == name).then_some(value);
        seen.params().into_iter().filter_map(of_name).collect::<Vec<_>>()
    };
    assert_eq!(all("resource"), ["https://one.example", "https://two.example"]);
    assert_eq!(all("audience"), ["three", "four"]);
    assert!(!format!("{source:?}").contains("subject\""));
}

#[tokio::test]
async fn tex_01_without_an_actor_there_is_no_actor_type_and_a_type_is_a_uri() {
    let fake = Fake::new([json(200, EXCHANGED)]);
    let builder = |token_type: &str| {
        TokenExchange::builder(URL, ClientAuth::anonymous(), "subject", token_type)
            .transport(fake.transport())
    };
    fetch(&builder(TokenExchange::ID_TOKEN).build().unwrap()).await.unwrap();
    assert!(fake.only().params().iter().all(|(name, _)| !name.starts_with("actor")));
    for bad in ["", "jwt", "a b:c"] {
        let error = builder(bad).build().unwrap_err();
        assert!(matches!(error, ConfigError::Parameter { .. }), "{bad}");
    }
    let error = builder(TokenExchange::JWT).actor_token("a", "jwt").build().unwrap_err();
    assert!(error.to_string().contains("actor_token_type"), "{error}");
}

#[tokio::test]
async fn tex_02_only_what_is_used_as_an_access_token_is_given_to_requests() {
    let answer = |issued: &str, token_type: &str| {
        json(200, &format!(r#"{{"access_token":"t","token_type":"{token_type}"{issued}}}"#))
    };
    let jag = r#","issued_token_type":"urn:ietf:params:oauth:token-type:id-jag""#;
    let access = r#","issued_token_type":"urn:ietf:params:oauth:token-type:access_token""#;
    let jwt_type = r#","issued_token_type":"urn:ietf:params:oauth:token-type:jwt""#;
    for (reply, good, assumed) in [
        (answer(access, "Bearer"), true, true),
        (answer("", "Bearer"), false, true),
        (answer(r#","issued_token_type":null"#, "Bearer"), false, true),
        (answer(r#","issued_token_type":7"#, "Bearer"), false, false),
        (answer(jag, "Bearer"), false, false),
        (answer(jwt_type, "Bearer"), true, true),
        (answer(jwt_type, "N_A"), false, false),
        (answer(access, "N_A"), false, false),
    ] {
        for (assume, expected) in [(false, good), (true, assumed)] {
            let fake = Fake::new([reply.clone()]);
            let auth = ClientAuth::anonymous();
            let mut builder = TokenExchange::builder(URL, auth, "s", TokenExchange::JWT)
                .transport(fake.transport());
            if assume {
                builder = builder.assume_access_token();
            }
            let outcome = fetch(&builder.build().unwrap()).await;
            let context = format!("{:?}, assumed: {assume}", reply.as_ref().unwrap().body());
            match outcome {
                Ok(_) => assert!(expected, "{context}"),
                Err(error) => {
                    assert!(!expected, "{context}: {error}");
                    assert_eq!(error.kind(), ErrorKind::UnusableToken, "{context}");
                }
            }
        }
    }
}

#[tokio::test]
async fn tex_02_any_other_type_reaches_whoever_asked_for_it_and_no_request() {
    let reply = json(
        200,
        r#"{"access_token":"jag","token_type":"N_A","expires_in":300,"scope":"a",
            "issued_token_type":"urn:ietf:params:oauth:token-type:id-jag","x":1}"#,
    );
    let exchange = |fake: &Fake, requested: Option<&str>| {
        let builder =
            TokenExchange::builder(URL, ClientAuth::anonymous(), "s", TokenExchange::ID_TOKEN)
                .transport(fake.transport());
        match requested {
            Some(requested) => builder.requested_token_type(requested),
            None => builder,
        }
        .build()
        .unwrap()
    };
    let fake = Fake::new([reply.clone(), reply.clone()]);
    let jag = exchange(&fake, Some(TokenExchange::ID_JAG));
    let issued = jag.issue().await.unwrap();
    assert_eq!(issued.token().expose(), "jag");
    assert_eq!((issued.issued_token_type(), issued.token_type()), (TokenExchange::ID_JAG, "N_A"));
    assert_eq!(issued.lifetime(), Some(Duration::from_secs(300)));
    assert_eq!(issued.scopes().unwrap().to_string(), "a");
    assert_eq!(issued.member("x"), Some(&1.into()));
    assert!(!format!("{issued:?}").contains("jag"));
    let sent = fake.seen();
    assert_eq!(sent[0].param("requested_token_type").as_deref(), Some(TokenExchange::ID_JAG));
    // As a source of tokens for requests it is refused.
    assert_eq!(fetch(&jag).await.unwrap_err().kind(), ErrorKind::UnusableToken);

    // Nobody asked for it.
    let fake = Fake::new([reply]);
    let error = exchange(&fake, Some(TokenExchange::SAML2)).issue().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnusableToken);
    assert!(error.to_string().contains("id-jag"), "{error}");
    let fake = Fake::new([]);
    let error = exchange(&fake, None).issue().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(fake.seen().is_empty());
}

/// A server that puts what it was sent where a type belongs.
#[tokio::test]
async fn f57_a_token_that_comes_back_as_a_type_is_not_shown() {
    for members in [
        r#""token_type":"subject-canary","issued_token_type":"x""#,
        r#""token_type":"Bearer","issued_token_type":"subject-canary""#,
        r#""token_type":"Bearer","issued_token_type":"urn:x:subject-canary""#,
    ] {
        let fake = Fake::new([json(200, &format!(r#"{{"access_token":"t",{members}}}"#))]);
        let auth = ClientAuth::anonymous();
        let source = TokenExchange::builder(URL, auth, "subject-canary", TokenExchange::JWT)
            .transport(fake.transport());
        let error = fetch(&source.build().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnusableToken);
        assert!(!everything(&error).contains("canary"), "{error:?}");
    }
}

struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("tower-oauth-{name}-{}", std::process::id())))
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.0, text).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn wif_01_a_file_is_read_for_every_fetch_and_recovers() {
    let file = File::new("file-token");
    let source = FileToken::new(&file.0).lifetime(Duration::from_secs(7));
    assert_eq!(fetch(&source).await.unwrap_err().kind(), ErrorKind::Credential);
    file.write("opaque\n");
    let token = fetch(&source).await.unwrap();
    assert_eq!(token.access_token().expose(), "opaque");
    assert_eq!(token.lifetime(), Some(Duration::from_secs(7)));
    let next = jwt(600, "next");
    file.write(&format!("{next}\n"));
    let token = fetch(&source).await.unwrap();
    assert_eq!(token.access_token().expose(), next);
    let left = token.lifetime().unwrap().as_secs();
    assert!((598..=600).contains(&left), "{left}");
    file.write(&jwt(-1, "dead"));
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential);
    assert!(error.to_string().contains("has expired"), "{error}");
    for bad in ["", "two words", "é"] {
        file.write(bad);
        fetch(&source).await.unwrap_err();
    }
}

#[cfg(unix)]
#[tokio::test]
async fn wif_01_a_swapped_link_is_followed() {
    let (one, two, link) = (File::new("link-one"), File::new("link-two"), File::new("link"));
    one.write("one");
    two.write("two");
    let source = FileToken::new(&link.0);
    for (target, expected) in [(&one, "one"), (&two, "two")] {
        let _ = std::fs::remove_file(&link.0);
        std::os::unix::fs::symlink(&target.0, &link.0).unwrap();
        assert_eq!(fetch(&source).await.unwrap().access_token().expose(), expected);
    }
}
