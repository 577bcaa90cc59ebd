//! Answers that have rotated the refresh token and are refused.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::sleep;
use tower_oauth::{
    ErrorKind, FetchContext, RefreshToken, TokenHandle, TokenSource,
    store::RecordState,
    testing::{AuthorizationServer, Reply},
};

use crate::harness::{LIFE, Process, TestStore, fetch, refresh, sent, server, strict};

const MINUTE: Duration = Duration::from_secs(60);

/// What else may be wrong with an answer, and the kind of its error.
fn wrong() -> [(Value, ErrorKind); 4] {
    [
        (json!({ "token_type": null }), ErrorKind::MalformedResponse),
        (json!({ "token_type": "mac" }), ErrorKind::UnusableToken),
        (json!({ "access_token": "a\nb" }), ErrorKind::UnusableToken),
        (json!({ "access_token": null }), ErrorKind::MalformedResponse),
    ]
}

fn is_rotation_intact(server: &AuthorizationServer) {
    assert!(!server.reuse_detected(), "a refresh token that was spent was sent again");
    let sent = sent(server);
    let mut once = sent.clone();
    once.dedup();
    assert_eq!(sent, once);
}

#[tokio::test(start_paused = true)]
async fn f87_the_refresh_token_of_a_refused_answer_is_stored_and_the_old_one_not_sent() {
    for (patch, kind) in wrong() {
        // At the start, and once there is a token.
        for before in [false, true] {
            let (server, store) = (strict(), TestStore::new());
            let initial = server.issue_refresh_token("cli");
            let source = refresh(&server, &*initial);
            if before {
                let first = Process::start(source.clone(), &store);
                first.token().await.unwrap();
                first.tokens.shutdown().await;
                sleep(LIFE).await;
            }
            server.always(Reply::honest().patch(patch.clone()));
            let generation = if before { store.record().generation() } else { 0 };
            let persisted = tower_oauth::store::Persisted::new(source, store.clone());
            let error = fetch(&persisted, &store).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert_eq!(store.record().state(), RecordState::Clean);
            assert_eq!(store.record().generation(), generation + 1);
            // The process ends here. The next one has no good answer either, and then one.
            drop(persisted);
            let next =
                tower_oauth::store::Persisted::new(refresh(&server, &*initial), store.clone());
            fetch(&next, &store).await.unwrap_err();
            server.honest();
            let token = fetch(&next, &store).await.unwrap();
            assert!(server.is_active(token.access_token().expose()));
            is_rotation_intact(&server);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f87_a_handle_recovers_by_itself_with_a_store_and_without_one() {
    for (patch, _) in wrong() {
        for stored in [false, true] {
            let (server, store) = (strict(), TestStore::new());
            let initial = server.issue_refresh_token("cli");
            let source = refresh(&server, &*initial);
            let tokens = if stored {
                Process::start(source, &store).tokens
            } else {
                TokenHandle::builder(source).clock(store.clock.clone()).spawn()
            };
            tokens.token().await.unwrap();
            server.always(Reply::honest().patch(patch.clone()));
            sleep(LIFE + MINUTE).await;
            assert!(server.token_request_count() > 3);
            is_rotation_intact(&server);
            server.honest();
            let token = tokens.token().await.unwrap();
            assert!(server.is_active(token.access_token().expose()));
            is_rotation_intact(&server);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f87_one_that_cannot_be_stored_is_kept_in_memory_and_stored_later() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let process = Process::start(refresh(&server, &*initial), &store);
    process.token().await.unwrap();
    server.script(Reply::honest().patch(json!({ "token_type": null })));
    store.trouble(|trouble| trouble.commits_fail = true);
    sleep(LIFE).await;
    assert!(process.events.count("NotSaved") > 0, "{}", process.events.all());
    store.well();
    assert!(server.is_active(&process.token().await.unwrap()));
    is_rotation_intact(&server);
    assert!(!process.events.all().contains("rt-"));
}

/// What is revoked at the end is the refresh token that lives.
#[tokio::test(start_paused = true)]
async fn f87_what_has_replaced_the_known_refresh_token_is_what_is_revoked() {
    let server = server(Duration::ZERO);
    let initial = server.issue_refresh_token("cli");
    let source: RefreshToken = crate::harness::revocable(&server, &initial);
    let first = Arc::new(source.fetch(FetchContext::first()).await.unwrap());
    let cx = || {
        let mut cx = FetchContext::first();
        cx.previous = Some(first.clone());
        cx
    };
    server.script(Reply::honest().patch(json!({ "token_type": null })));
    source.fetch(cx()).await.unwrap_err();
    source.revoke(cx()).await.unwrap();
    let revoked: Vec<_> = server.requests().iter().filter_map(|r| r.param("token")).collect();
    assert_ne!(revoked[0], first.refresh_token().unwrap().expose());
    assert!(source.fetch(cx()).await.unwrap_err().needs_user());
    is_rotation_intact(&server);
}

/// GitHub says so with status 200, and it was asked again 154 times a day.
#[tokio::test(start_paused = true)]
async fn f89_a_dead_refresh_token_under_another_name_ends_the_session() {
    for reply in [
        Reply::json(200, json!({ "error": "bad_refresh_token", "error_description": "d" })),
        Reply::json(400, json!({ "status": "BAD_REFRESH_TOKEN", "message": "m" })),
        Reply::oauth_error(400, "interaction_required"),
    ] {
        let (server, store) = (strict(), TestStore::new());
        let initial = server.issue_refresh_token("cli");
        let process = Process::start(refresh(&server, &*initial), &store);
        process.token().await.unwrap();
        server.always(reply);
        sleep(24 * 60 * MINUTE).await;
        assert_eq!(server.token_request_count(), 2, "one that gave a token, and one that ended it");
        assert!(process.events.count("Ended") > 0, "{}", process.events.all());
        assert_eq!(store.record().state(), RecordState::Dead);
        assert!(process.token().await.unwrap_err().needs_user());
    }
}
