//! What an answer leads to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tower_oauth::{
    BoxError, ClientAuth, ClientCredentials, Error, ErrorKind, RefreshToken, Secret, SecretSource,
};

use crate::fake::{Fake, GRANTED, Reply, URL, everything, fetch, granted, json, labelled, refused};

fn credentials(fake: &Fake, secret: impl Into<SecretSource>) -> ClientCredentials {
    ClientCredentials::builder(URL, ClientAuth::basic("orders", secret))
        .transport(fake.transport())
        .build()
        .unwrap()
}

/// One fetch that fails after one request.
async fn error(reply: Reply) -> Error {
    let fake = Fake::new([reply]);
    let error = fetch(&credentials(&fake, "hunter2")).await.unwrap_err();
    fake.only();
    error
}

/// A secret that is another one each time it is read, up to the last.
fn rotating<const N: usize>(values: [Result<&'static str, &'static str>; N]) -> SecretSource {
    let reads = Arc::new(AtomicUsize::new(0));
    SecretSource::provider(move || {
        let read = reads.fetch_add(1, Ordering::Relaxed).min(N - 1);
        let value = values[read];
        async move { value.map(Secret::from).map_err(BoxError::from) }
    })
}

#[tokio::test]
async fn trs_01_an_answer_without_a_token_is_an_error() {
    for body in ["{}", r#"{"access_token":"","token_type":"Bearer"}"#, ""] {
        assert_eq!(error(json(200, body)).await.kind(), ErrorKind::MalformedResponse, "{body}");
    }
}

#[tokio::test]
async fn trs_03_the_builder_passes_its_rules_on() {
    let untyped = r#"{"access_token":"1|2","expires_in":3600}"#;
    let fake = Fake::new([json(200, untyped)]);
    let builder = || {
        ClientCredentials::builder(URL, ClientAuth::basic("orders", "s"))
            .transport(fake.transport())
    };
    assert!(fetch(&builder().build().unwrap()).await.is_err());
    let assuming = builder().assume_bearer().max_lifetime(Duration::from_secs(60));
    let token = fetch(&assuming.build().unwrap()).await.unwrap();
    assert_eq!(token.lifetime(), Some(Duration::from_secs(60)));
    let strict = builder().assume_bearer().strict().build().unwrap();
    assert_eq!(fetch(&strict).await.unwrap_err().kind(), ErrorKind::UnusableToken);
}

#[tokio::test]
async fn trs_07_f11_a_lifetime_is_a_year_at_most_unless_told_otherwise() {
    let fake = Fake::new([json(
        200,
        r#"{"access_token":"t","token_type":"Bearer","expires_in":9999999999}"#,
    )]);
    let token = fetch(&credentials(&fake, "s")).await.unwrap();
    assert_eq!(token.lifetime(), Some(Duration::from_secs(365 * 86400)));
}

#[tokio::test(start_paused = true)]
async fn trs_09_a_life_counts_from_when_the_request_was_sent() {
    let transport =
        tower_oauth::Transport::new(tower::service_fn(|_: http::Request<bytes::Bytes>| async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Ok::<_, std::io::Error>(http::Response::new(GRANTED.to_owned()))
        }));
    let source = ClientCredentials::builder(URL, ClientAuth::basic("orders", "s"))
        .transport(transport)
        .build()
        .unwrap();
    let start = Instant::now();
    let token = fetch(&source).await.unwrap();
    assert_eq!(token.sent_at(), Some(start));
    assert_eq!(start.elapsed(), Duration::from_secs(10));
}

#[tokio::test]
async fn trs_10_f14_the_scopes_that_were_asked_for_are_granted_unless_the_answer_says_otherwise() {
    let narrower = r#"{"access_token":"t","token_type":"Bearer","scope":"a"}"#;
    for (reply, scopes) in [(granted(), "a b"), (json(200, narrower), "a")] {
        let fake = Fake::new([reply]);
        let source = ClientCredentials::builder(URL, ClientAuth::basic("orders", "s"))
            .scopes(["b", "a"])
            .transport(fake.transport())
            .build()
            .unwrap();
        let token = fetch(&source).await.unwrap();
        assert_eq!(token.scopes().map(ToString::to_string).as_deref(), Some(scopes));
    }
}

#[tokio::test]
async fn trs_16_an_error_with_status_200_is_an_error() {
    let slack = error(json(200, r#"{"ok":false,"error":"invalid_code"}"#)).await;
    assert_eq!(slack.kind(), ErrorKind::Denied);
    let github = r#"{"error":"bad_verification_code","access_token":"x","token_type":"bearer"}"#;
    assert_eq!(error(json(200, github)).await.kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn err_02_an_error_uri_is_never_opened_and_its_text_is_one_line() {
    let body =
        r#"{"error":"x","error_description":"a\nb\u001b[0m","error_uri":"https://as.example/e"}"#;
    let text = error(json(400, body)).await.to_string();
    assert!(text.contains(r"a\u{a}b\u{1b}[0m"), "{text}");
}

#[tokio::test]
async fn err_04_an_error_causes_no_second_request() {
    for (code, kind) in [
        ("invalid_client", ErrorKind::InvalidClient),
        ("unauthorized_client", ErrorKind::InvalidClient),
        ("unsupported_grant_type", ErrorKind::InvalidRequest),
        ("invalid_scope", ErrorKind::InvalidRequest),
        ("invalid_request", ErrorKind::InvalidRequest),
        ("invalid_target", ErrorKind::InvalidRequest),
        ("invalid_grant", ErrorKind::InvalidGrant),
        ("server_error", ErrorKind::Server),
        ("temporarily_unavailable", ErrorKind::Server),
    ] {
        let error = error(refused(400, code)).await;
        assert_eq!(error.kind(), kind, "{code}");
        assert_eq!(error.is_retryable(), kind == ErrorKind::Server, "{code}");
    }
    assert_eq!(error(json(429, "{}")).await.kind(), ErrorKind::Throttled);
    assert_eq!(error(None).await.kind(), ErrorKind::Transport);
}

#[tokio::test]
async fn err_06_a_refused_secret_is_read_again_and_tried_once_if_it_is_another_one() {
    for (secret, replies, sent, succeeds) in [
        // It was replaced.
        (
            rotating([Ok("old"), Ok("new")]),
            vec![refused(401, "invalid_client"), granted()],
            2,
            true,
        ),
        // It was replaced, and is refused again: no third request.
        (rotating([Ok("a"), Ok("b"), Ok("c")]), vec![refused(401, "invalid_client")], 2, false),
        // It is the same.
        (rotating([Ok("same")]), vec![refused(401, "invalid_client")], 1, false),
        // It cannot be read any more.
        (rotating([Ok("a"), Err("gone")]), vec![refused(401, "invalid_client")], 1, false),
        // It cannot change.
        ("literal".into(), vec![refused(401, "invalid_client")], 1, false),
        // It was not refused.
        (rotating([Ok("a"), Ok("b")]), vec![refused(400, "invalid_scope")], 1, false),
    ] {
        let fake = Fake::new(replies);
        let outcome = fetch(&credentials(&fake, secret.clone())).await;
        assert_eq!((fake.seen().len(), outcome.is_ok()), (sent, succeeds), "{secret:?}");
        if let [first, second] = &*fake.seen() {
            assert_ne!(first.basic(), second.basic());
        }
        if let Err(error) = outcome {
            assert!(matches!(error.kind(), ErrorKind::InvalidClient | ErrorKind::InvalidRequest));
        }
    }
}

#[tokio::test]
async fn f07_a_bare_401_is_a_refused_client_and_reads_the_secret_again() {
    let fake = Fake::new([labelled(401, "text/plain", ""), granted()]);
    let source = credentials(&fake, rotating([Ok("old"), Ok("new")]));
    assert!(fetch(&source).await.is_ok());
    assert_eq!(fake.seen()[1].basic().unwrap().1, "new");
}

#[tokio::test]
async fn an_unreadable_secret_is_an_error_before_any_request() {
    let fake = Fake::new([granted()]);
    let error = fetch(&credentials(&fake, rotating([Err("sealed")]))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential);
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn f06_a_retry_after_is_given_as_an_instant() {
    let mut reply = json(503, "{}");
    if let Some(answer) = &mut reply {
        answer.headers_mut().insert("retry-after", http::HeaderValue::from_static("120"));
    }
    let before = Instant::now();
    let at = error(reply).await.retry_at().expect("an instant");
    let wait = at - before;
    assert!((120..122).contains(&wait.as_secs()), "{wait:?}");
}

#[tokio::test]
async fn f09_a_firewalls_page_is_transient_and_not_copied() {
    for status in [403, 502] {
        let error = error(labelled(status, "text/html", "<html>support id 4711</html>")).await;
        assert_eq!(error.kind(), ErrorKind::Server);
        let text = everything(&error);
        assert!(text.contains(&status.to_string()) && !text.contains("4711"), "{text}");
    }
}

#[tokio::test]
async fn f13_a_token_that_does_not_fit_a_header_is_refused_unseen() {
    for token in ["canary\\r\\nX: y", "canary\\u0000", "canaryé"] {
        let body = format!(r#"{{"access_token":"{token}","token_type":"Bearer"}}"#);
        let error = error(json(200, &body)).await;
        assert_eq!(error.kind(), ErrorKind::UnusableToken);
        assert!(!everything(&error).contains("canary"));
    }
    let large = format!(r#"{{"access_token":"{}","token_type":"Bearer"}}"#, "x".repeat(1 << 20));
    assert_eq!(error(json(200, &large)).await.kind(), ErrorKind::MalformedResponse);
}

/// A server that mixes its members up.
#[tokio::test]
async fn f57_an_answers_own_tokens_are_not_shown() {
    for (status, body) in [
        (200, r#"{"access_token":"canary","token_type":"Bearer canary"}"#),
        (200, r#"{"access_token":"t","refresh_token":"canary","token_type":"canary"}"#),
        (400, r#"{"access_token":"canary","error":"x","error_description":"not canary"}"#),
        (200, r#"{"refresh_token":"canary","error":"canary","error_uri":"/?canary"}"#),
    ] {
        let text = everything(&error(json(status, body)).await);
        assert!(text.contains("[redacted]") && !text.contains("canary"), "{text}");
    }
}

#[tokio::test]
async fn f57_a_server_that_repeats_what_it_got_reveals_nothing() {
    let echo = |auth: ClientAuth| async move {
        let transport = tower_oauth::Transport::new(tower::service_fn(
            |request: http::Request<bytes::Bytes>| async move {
                let header = request.headers().get("authorization");
                let header = header.map(|value| value.to_str().unwrap()).unwrap_or_default();
                let body = String::from_utf8_lossy(request.body()).into_owned();
                let body = serde_json::json!({
                    "error": format!("bad {body}"),
                    "error_description": format!("got {header} and {body} for p@ss w+rd, r/canary"),
                    "error_uri": format!("https://as.example/?{body}"),
                });
                let answer = http::Response::builder().status(400);
                Ok::<_, std::io::Error>(answer.body(body.to_string()).unwrap())
            },
        ));
        let source = RefreshToken::builder(URL, auth, "r/canary").transport(transport);
        everything(&fetch(&source.build().unwrap()).await.unwrap_err())
    };
    for auth in [
        ClientAuth::basic("orders", "p@ss w+rd"),
        ClientAuth::basic_unencoded("orders", "p@ss w+rd"),
        ClientAuth::post("orders", "p@ss w+rd"),
    ] {
        let text = echo(auth).await;
        assert!(text.contains("[redacted]"), "{text}");
        for secret in ["p@ss", "p%40ss", "w+rd", "canary", "b3JkZXJzO"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}
