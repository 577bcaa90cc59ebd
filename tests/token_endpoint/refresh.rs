//! The refresh token grant over several fetches.

use std::sync::{Arc, Mutex};

use tower_oauth::{
    ClientAuth, ConfigError, Error, ErrorKind, FetchContext, RefreshToken, Secret, SecretSource,
    TokenSet, TokenSource,
};

use crate::fake::{Fake, Reply, URL, granted, json, refused};

fn rotated(refresh_token: &str) -> Reply {
    json(
        200,
        &format!(r#"{{"access_token":"t","token_type":"Bearer","refresh_token":{refresh_token}}}"#),
    )
}

fn refresh(fake: &Fake, initial: impl Into<SecretSource>) -> RefreshToken {
    RefreshToken::builder(URL, ClientAuth::none("cli"), initial)
        .transport(fake.transport())
        .build()
        .unwrap()
}

/// Fetches as the refresher does: with the token set from before.
async fn next(source: &RefreshToken, previous: Option<TokenSet>) -> Result<TokenSet, Error> {
    let mut cx = FetchContext::first();
    cx.previous = previous.map(Arc::new);
    source.fetch(cx).await
}

fn sent(fake: &Fake) -> Vec<String> {
    fake.seen().iter().map(|seen| seen.param("refresh_token").unwrap()).collect()
}

/// A secret that can be replaced, as a file can.
fn replaceable(first: &str) -> (Arc<Mutex<String>>, SecretSource) {
    let value = Arc::new(Mutex::new(first.to_owned()));
    let shared = value.clone();
    let source = SecretSource::provider(move || {
        let secret = Secret::from(&**shared.lock().unwrap());
        async move { Ok(secret) }
    });
    (value, source)
}

#[tokio::test]
async fn rfr_01_a_refresh_asks_for_no_scope_unless_for_a_narrower_one() {
    let builder = |fake: &Fake| {
        RefreshToken::builder(URL, ClientAuth::none("cli"), "r1")
            .granted_scopes(["a", "b"])
            .transport(fake.transport())
    };
    let fake = Fake::new([granted()]);
    let token = next(&builder(&fake).build().unwrap(), None).await.unwrap();
    assert_eq!(fake.only().body, "grant_type=refresh_token&refresh_token=r1&client_id=cli");
    assert_eq!(token.scopes().unwrap().to_string(), "a b");

    let fake = Fake::new([granted()]);
    let narrow = next(&builder(&fake).scope("a").build().unwrap(), None).await.unwrap();
    assert_eq!(fake.only().param("scope").as_deref(), Some("a"));
    assert_eq!(narrow.scopes().unwrap().to_string(), "a");

    let fake = Fake::new([granted()]);
    let wide = next(&builder(&fake).build().unwrap(), Some(narrow)).await.unwrap();
    assert_eq!(fake.only().param("scope"), None);
    assert_eq!(wide.scopes().unwrap().to_string(), "a b");

    let wider = builder(&fake).scope("c").build().unwrap_err();
    assert!(matches!(wider, ConfigError::Setting { name: "scope", .. }), "{wider}");
}

#[tokio::test]
async fn rfr_01_scopes_that_are_known_stay_known() {
    let body = r#"{"access_token":"t","token_type":"Bearer","scope":"a"}"#;
    let fake = Fake::new([json(200, body), granted()]);
    let source = refresh(&fake, "r1");
    let first = next(&source, None).await.unwrap();
    let second = next(&source, Some(first)).await.unwrap();
    assert_eq!(second.scopes().unwrap().to_string(), "a");
}

#[tokio::test]
async fn rfr_02_a_rotated_token_replaces_the_old_one_which_is_never_sent_again() {
    let fake = Fake::new([
        rotated(r#""r2""#),
        rotated(r#""r3""#),
        refused(400, "invalid_grant"),
        refused(400, "invalid_grant"),
    ]);
    let source = refresh(&fake, "r1");
    let mut token = None;
    for _ in 0..2 {
        token = Some(next(&source, token).await.unwrap());
    }
    for _ in 0..2 {
        let error = next(&source, token.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidGrant);
    }
    // Not r1 again: it is spent, and to send it would be taken for theft.
    assert_eq!(sent(&fake), ["r1", "r2", "r3", "r3"]);
}

#[tokio::test]
async fn trs_17_an_answer_without_a_refresh_token_keeps_the_current_one() {
    let fake =
        Fake::new([granted(), rotated("null"), rotated(r#""""#), rotated(r#""r2""#), granted()]);
    let source = refresh(&fake, "r1");
    let mut token = None;
    for _ in 0..5 {
        token = Some(next(&source, token).await.unwrap());
    }
    assert_eq!(sent(&fake), ["r1", "r1", "r1", "r1", "r2"]);
    assert_eq!(token.unwrap().refresh_token().map(Secret::expose), Some("r2"));
}

#[tokio::test]
async fn f14_the_current_refresh_token_is_in_the_token_set() {
    let fake = Fake::new([granted()]);
    let token = next(&refresh(&fake, "r1"), None).await.unwrap();
    assert_eq!(token.refresh_token().map(Secret::expose), Some("r1"));
}

#[tokio::test]
async fn rfr_06_an_ended_grant_needs_somebody_and_starts_nothing() {
    let fake = Fake::new([refused(400, "invalid_grant")]);
    let (_, initial) = replaceable("r1");
    let error = next(&refresh(&fake, initial), None).await.unwrap_err();
    assert!(error.needs_user() && !error.is_retryable(), "{error:?}");
    fake.only();
}

#[tokio::test]
async fn rfr_08_after_a_lost_answer_the_same_token_is_sent_again() {
    let fake = Fake::new([None, rotated(r#""r2""#), None, granted()]);
    let source = refresh(&fake, "r1");
    let lost = next(&source, None).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Transport);
    assert!(lost.is_retryable());
    let token = next(&source, None).await.unwrap();
    next(&source, Some(token.clone())).await.unwrap_err();
    next(&source, Some(token)).await.unwrap();
    assert_eq!(sent(&fake), ["r1", "r1", "r2", "r2"]);
}

#[tokio::test]
async fn f08_a_replaced_initial_token_is_tried_once_after_invalid_grant() {
    let (value, initial) = replaceable("r1");
    let fake = Fake::new([
        rotated(r#""r2""#),
        refused(400, "invalid_grant"),
        rotated(r#""n2""#),
        refused(400, "invalid_grant"),
    ]);
    let source = refresh(&fake, initial);
    let token = next(&source, None).await.unwrap();
    *value.lock().unwrap() = "n1".to_owned();
    let token = next(&source, Some(token)).await.unwrap();
    assert_eq!(token.refresh_token().map(Secret::expose), Some("n2"));
    next(&source, Some(token)).await.unwrap_err();
    assert_eq!(sent(&fake), ["r1", "r2", "n1", "n2"]);
}

#[tokio::test]
async fn f08_after_a_restart_a_newly_configured_token_replaces_a_dead_one() {
    let fake = Fake::new([refused(400, "invalid_grant"), granted()]);
    let stored = TokenSet::bearer("t").unwrap().with_refresh_token("dead");
    let token = next(&refresh(&fake, "new"), Some(stored)).await.unwrap();
    assert_eq!(sent(&fake), ["dead", "new"]);
    assert_eq!(token.refresh_token().map(Secret::expose), Some("new"));
}

#[tokio::test]
async fn f08_a_dead_token_is_not_sent_twice_where_it_is_configured_as_well() {
    let fake = Fake::new([refused(400, "invalid_grant")]);
    let stored = TokenSet::bearer("t").unwrap().with_refresh_token("dead");
    next(&refresh(&fake, "dead"), Some(stored)).await.unwrap_err();
    assert_eq!(sent(&fake), ["dead"]);
}

#[tokio::test]
async fn f08_an_error_that_does_not_end_the_grant_sends_no_other_token() {
    for reply in [refused(503, "server_error"), refused(401, "invalid_client"), None] {
        let (value, initial) = replaceable("r1");
        let fake = Fake::new([rotated(r#""r2""#), reply]);
        let source = refresh(&fake, initial);
        let token = next(&source, None).await.unwrap();
        *value.lock().unwrap() = "n1".to_owned();
        next(&source, Some(token)).await.unwrap_err();
        assert_eq!(sent(&fake), ["r1", "r2"]);
    }
}
