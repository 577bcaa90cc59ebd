//! Records that are removed, for a user who has logged out.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tower_oauth::{
    ErrorKind, FetchContext, TokenHandle, TokenSource,
    observe::FetchReason,
    store::{Persisted, RecordState},
    testing::Reply,
};

use crate::harness::{
    Process, TestStore, client_credentials, fetch, refresh, replaceable, revocable, strict,
};

#[tokio::test(start_paused = true)]
async fn whoever_logs_out_leaves_nothing_behind() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let source = Arc::new(Persisted::new(revocable(&server, &initial), store.clone()));
    let tokens = TokenHandle::spawn(source.clone());
    let token = tokens.token().await.unwrap();
    tokens.shutdown().revoke().await.unwrap();
    assert_eq!(store.record().state(), RecordState::Dead);
    source.forget().await.unwrap();
    assert_eq!(store.records(), 0);
    assert!(!server.is_active(token.access_token().expose()));
    // Nothing of it is remembered, and nothing written back.
    assert_eq!(fetch(&source, &store).await.unwrap_err().kind(), ErrorKind::InvalidGrant);
    // Logged in again.
    let again = server.issue_refresh_token("cli");
    fetch(&Persisted::new(refresh(&server, &*again), store.clone()), &store).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_begins_anew() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let source = Persisted::new(refresh(&server, &*initial), store.clone()).subject("alice");
    fetch(&source, &store).await.unwrap();
    source.forget().await.unwrap();
    source.forget().await.unwrap();
    assert_eq!(store.records(), 0);
    // The session is not ended by that: it is the tokens here that are gone.
    assert!(!server.reuse_detected());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_forgotten_under_the_hands_of_a_process_that_renews() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let process = Process::start(refresh(&server, &*initial), &store);
    process.token().await.unwrap();
    let forgetful = Persisted::new(refresh(&server, &*initial), store.clone());
    server.script(Reply::hang());
    tokio::time::timeout(Duration::from_secs(1), process.tokens.refresh()).await.unwrap_err();
    assert_eq!(forgetful.forget().await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(store.records(), 1);
    sleep(Duration::from_secs(60)).await;
    forgetful.forget().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_forgets_waits_for_a_renewal_that_is_about_to_end() {
    let (server, store) = (strict(), TestStore::new());
    let start = || Persisted::new(client_credentials(&server), store.clone());
    let (source, other) = (start(), start());
    // Of its own, and of another process.
    for forgetful in [&source, &other] {
        server.script(Reply::honest().delay(Duration::from_secs(3)));
        let (fetched, forgotten) = tokio::join!(fetch(&source, &store), async {
            sleep(Duration::from_secs(1)).await;
            forgetful.forget().await
        });
        fetched.unwrap();
        forgotten.unwrap();
        assert_eq!(store.records(), 0);
    }
}

/// What it has in memory alone keeps the lock, which it must not wait for itself.
#[tokio::test(start_paused = true)]
async fn what_could_not_be_stored_can_be_forgotten() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let source = Persisted::new(refresh(&server, &*initial), store.clone());
    store.trouble(|trouble| trouble.commits_fail = true);
    fetch(&source, &store).await.unwrap();
    store.well();
    source.forget().await.unwrap();
    assert_eq!(store.records(), 0);
    let mut cx = FetchContext::first();
    cx.reason = FetchReason::Requested;
    assert_eq!(source.fetch(cx).await.unwrap_err().kind(), ErrorKind::InvalidGrant);
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_name_cannot_be_told_is_an_error() {
    let (server, store) = (strict(), TestStore::new());
    let (value, initial) = replaceable(&server.issue_refresh_token("cli"));
    fetch(&Persisted::new(refresh(&server, initial.clone()), store.clone()), &store).await.unwrap();
    value.lock().unwrap().clear();
    let source = Persisted::new(refresh(&server, initial.clone()), store.clone());
    source.forget().await.unwrap_err();
    assert_eq!(store.records(), 1);
    // By a name, it can.
    let named = || Persisted::new(refresh(&server, "r"), store.clone()).subject("alice");
    let _ = fetch(&named(), &store).await;
    assert_eq!(store.records(), 2);
    named().forget().await.unwrap();
    assert_eq!(store.records(), 1);
}
