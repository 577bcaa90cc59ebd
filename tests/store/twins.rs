//! One machine that becomes two: a snapshot that is started twice, with one refresh token in both.

use std::time::Duration;

use tokio::time::sleep;
use tower_oauth::{ErrorKind, State, TokenHandle, store::RecordState};

use crate::harness::{LIFE, Process, TestStore, refresh, strict};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn f52_f08_twins_of_one_refresh_token_end_with_a_message_and_not_in_a_loop() {
    let (server, disk) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let machine = Process::start(refresh(&server, &*initial), &disk);
    machine.token().await.unwrap();
    machine.tokens.shutdown().await;

    let other_disk = disk.copy();
    let first = Process::start(refresh(&server, &*initial), &disk);
    let second = Process::start(refresh(&server, &*initial), &other_disk);
    // Both go on with the token of the snapshot.
    assert_eq!(first.token().await.unwrap(), second.token().await.unwrap());
    assert_eq!(server.token_request_count(), 1);

    // One of them renews first; the other one spends what is spent, and that ends the family.
    sleep(LIFE * 2).await;
    assert!(server.reuse_detected());
    for (twin, disk) in [(&first, &disk), (&second, &other_disk)] {
        let error = twin.token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidGrant, "{error}");
        assert!(error.needs_user() && !error.is_retryable(), "{error}");
        assert!(error.to_string().contains("has ended"), "{error}");
        assert_eq!(twin.tokens.status().state(), State::Failed);
        // Marked, so that it is known after a restart too, and not deleted.
        assert_eq!(disk.record().state(), RecordState::Dead);
    }

    // For a day nothing more is sent, whoever asks.
    let requests = server.token_request_count();
    assert!(requests <= 5, "{requests} token requests");
    for _ in 0..24 {
        sleep(HOUR).await;
        for twin in [&first, &second] {
            let error = twin.token().await.unwrap_err();
            assert!(error.to_string().contains("give access again"), "{error}");
        }
    }
    assert_eq!(server.token_request_count(), requests);
}

/// Without a store nothing is remembered, but what was refused is asked for ever more seldom.
#[tokio::test(start_paused = true)]
async fn f52_f08_twins_without_a_store_end_and_ask_slowly() {
    let server = strict();
    let initial = server.issue_refresh_token("cli");
    let first = TokenHandle::spawn(refresh(&server, &*initial));
    first.ready().await.unwrap();
    let second = TokenHandle::spawn(refresh(&server, &*initial));
    assert_eq!(second.ready().await.unwrap_err().kind(), ErrorKind::InvalidGrant);
    assert!(server.reuse_detected());
    sleep(LIFE).await;
    for twin in [&first, &second] {
        let error = twin.token().await.unwrap_err();
        assert!(error.needs_user(), "{error}");
        assert_eq!(twin.status().state(), State::Failed);
    }
    server.reset_ledger();
    sleep(HOUR * 24).await;
    // Every ten minutes, each of them.
    let requests = server.token_request_count();
    assert!((200..400).contains(&requests), "{requests}");
}
