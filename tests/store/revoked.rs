//! Tokens that are revoked at the end, and APIs that ask for more.

use tower_oauth::{
    ClientAuth, ClientCredentials, ErrorKind, RefreshToken, Scopes, source::StepUp,
    store::RecordState, testing::Reply,
};

use crate::harness::{Process, TestStore, refresh, revocable, sent, strict, transport};

#[tokio::test(start_paused = true)]
async fn what_is_revoked_at_the_end_is_the_newest_and_is_marked() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let first = Process::start(revocable(&server, &initial), &store);
    let second = Process::start(revocable(&server, &initial), &store);
    first.token().await.unwrap();
    second.token().await.unwrap();
    // The first one does not know of it.
    let newest = second.tokens.refresh().await.unwrap();
    first.tokens.shutdown().revoke().await.unwrap();
    assert!(!server.is_active(newest.access_token().expose()));
    let record = store.record();
    assert_eq!(record.state(), RecordState::Dead);
    assert!(!record.to_json().expose().contains("access_token"));

    let requests = server.token_request_count();
    let third = Process::start(revocable(&server, &initial), &store);
    assert_eq!(third.token().await.unwrap_err().kind(), ErrorKind::InvalidGrant);
    assert_eq!(second.tokens.refresh().await.unwrap_err().kind(), ErrorKind::InvalidGrant);
    assert!(server.token_request_count() <= requests + 1);
    assert!(!server.reuse_detected());
}

#[tokio::test(start_paused = true)]
async fn a_clients_own_token_that_was_revoked_is_fetched_again() {
    let (server, store) = (strict(), TestStore::new());
    let source = || {
        ClientCredentials::builder(server.token_endpoint(), ClientAuth::basic("orders", "secret"))
            .revocation_endpoint(format!("{}/revoke", server.url()))
            .transport(transport(&server))
            .build()
            .unwrap()
    };
    let first = Process::start(source(), &store);
    let token = first.token().await.unwrap();
    first.tokens.shutdown().revoke().await.unwrap();
    assert!(!server.is_active(&token));
    let second = Process::start(source(), &store);
    assert!(server.is_active(&second.token().await.unwrap()));
    assert_eq!(store.record().generation(), 3);
}

/// What the store does not hold is revoked all the same, and that it was not marked is told.
#[tokio::test(start_paused = true)]
async fn without_the_store_the_call_is_made_and_an_error_returned() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let process = Process::start(revocable(&server, &initial), &store);
    let token = process.token().await.unwrap();
    store.trouble(|trouble| trouble.reads_fail = true);
    let error = process.tokens.shutdown().revoke().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
    assert!(!server.is_active(&token));
}

fn wants(scope: &str) -> StepUp {
    let mut scopes = Scopes::default();
    scopes.insert(scope).unwrap();
    StepUp::scopes(scopes)
}

#[tokio::test(start_paused = true)]
async fn a_stored_token_that_has_less_than_an_api_wants_is_not_adopted() {
    let (server, store) = (strict(), TestStore::new());
    let source = || {
        ClientCredentials::builder(server.token_endpoint(), ClientAuth::basic("orders", "secret"))
            .scope("a")
            .transport(transport(&server))
            .build()
            .unwrap()
    };
    let first = Process::start(source(), &store);
    let second = Process::start(source(), &store);
    let narrow = first.tokens.token().await.unwrap();
    let same = second.tokens.token().await.unwrap();
    let wide = first.tokens.step_up(narrow.epoch(), wants("b")).await.unwrap();
    assert!(wide.scopes().unwrap().contains("b"));
    assert_eq!(server.token_request_count(), 2);
    // But one that has it is.
    let adopted = second.tokens.step_up(same.epoch(), wants("b")).await.unwrap();
    assert_eq!(adopted.access_token(), wide.access_token());
    assert_eq!(server.token_request_count(), 2);
}

/// The grant refuses it by itself: nothing was sent, and the session lives.
#[tokio::test(start_paused = true)]
async fn a_step_up_that_was_not_granted_does_not_end_the_session() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let grant = RefreshToken::builder(server.token_endpoint(), ClientAuth::none("cli"), &*initial)
        .granted_scopes(["a"])
        .transport(transport(&server))
        .build()
        .unwrap();
    let process = Process::start(grant, &store);
    let token = process.tokens.token().await.unwrap();
    process.tokens.step_up(token.epoch(), wants("b")).await.unwrap_err();
    assert_eq!(store.record().state(), RecordState::Clean);
    assert_eq!(sent(&server).len(), 1);
    process.tokens.refresh().await.unwrap();
}

/// The server refuses the request, which asks for more than the session has.
#[tokio::test(start_paused = true)]
async fn f08_a_step_up_that_the_server_refuses_does_not_end_the_session() {
    let claims = StepUp::claims(r#"{"access_token":{"acr":null}}"#);
    for code in ["invalid_grant", "consent_required", "interaction_required", "login_required"] {
        for step_up in [wants("b"), claims.clone()] {
            let (server, store) = (strict(), TestStore::new());
            let initial = server.issue_refresh_token("cli");
            let process = Process::start(refresh(&server, &*initial), &store);
            let token = process.tokens.token().await.unwrap();
            let before = store.record();
            server.script(Reply::oauth_error(400, code));
            let error = process.tokens.step_up(token.epoch(), step_up).await.unwrap_err();
            assert_eq!(error.oauth().unwrap().code.as_deref(), Some(code));
            assert_eq!(store.record().state(), RecordState::Clean);
            assert_eq!(store.record().to_json().expose(), before.to_json().expose());
            process.tokens.refresh().await.unwrap();
        }
    }
}

/// A refresh token that is dead is found out at the next renewal, which asks for no more.
#[tokio::test(start_paused = true)]
async fn f08_a_session_that_has_ended_is_found_out_by_the_next_renewal() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let process = Process::start(refresh(&server, &*initial), &store);
    let token = process.tokens.token().await.unwrap();
    server.always(Reply::oauth_error(400, "invalid_grant"));
    process.tokens.step_up(token.epoch(), wants("b")).await.unwrap_err();
    assert_eq!(store.record().state(), RecordState::Clean);
    process.tokens.refresh().await.unwrap_err();
    assert_eq!(store.record().state(), RecordState::Dead);
}
