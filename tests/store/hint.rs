//! Hints that another process has stored something.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;
use tower_oauth::{
    ErrorKind, TokenHandle,
    store::{MemoryStore, Persisted, WithoutStore},
    testing::Reply,
};

use crate::harness::{
    Hints, LIFE, Process, TestStore, Trouble, client_credentials, refresh, server, strict,
};

const SECOND: Duration = Duration::from_secs(1);

fn hinting(hints: Hints) -> TestStore {
    let store = TestStore::new();
    store.trouble(|trouble| trouble.hints = hints);
    store
}

#[tokio::test(start_paused = true)]
async fn f46_what_one_process_renews_the_other_has_within_a_second() {
    for rotates in [true, false] {
        let (server, store) = (strict(), hinting(Hints::Honest));
        let initial = server.issue_refresh_token("cli");
        let start = || Process::of_grant(rotates, &server, &initial, &store);
        let (first, second) = (start(), start());
        let before = first.token().await.unwrap();
        assert_eq!(second.token().await.unwrap(), before);
        for _ in 0..3 {
            let token = first.tokens.refresh().await.unwrap();
            sleep(SECOND).await;
            assert_eq!(&second.token().await.unwrap(), token.access_token().expose());
        }
        assert_eq!(server.token_request_count(), 4);
        assert_eq!(second.events.count("Adopted"), 4, "{}", second.events.all());
        // One look for each, beside the one at the start of each process. None at what is one's own.
        assert_eq!(store.loads(), 2 + 3 + 3, "with one before each renewal");
        assert!(!server.reuse_detected());
    }
}

#[tokio::test(start_paused = true)]
async fn f46_handles_that_share_a_store_in_memory_hear_of_each_other() {
    let (server, store) = (strict(), MemoryStore::new());
    let start = || TokenHandle::spawn(Persisted::new(client_credentials(&server), store.clone()));
    let (first, second) = (start(), start());
    first.ready().await.unwrap();
    second.ready().await.unwrap();
    let token = first.refresh().await.unwrap();
    sleep(SECOND).await;
    let theirs = second.current().unwrap();
    assert_eq!(theirs.access_token(), token.access_token());
    assert_eq!(server.token_request_count(), 2);
}

#[tokio::test(start_paused = true)]
async fn f46_hints_in_vain_cause_few_reads_and_no_token_request() {
    let (server, store) = (strict(), hinting(Hints::Always));
    let initial = server.issue_refresh_token("cli");
    let process = Process::start(refresh(&server, &*initial), &store);
    let token = process.token().await.unwrap();
    sleep(LIFE / 2).await;
    assert!((4..=8).contains(&store.loads()), "{} reads", store.loads());
    // Also when there is nothing to be read, and when it takes for ever.
    store.trouble(|trouble| trouble.reads_fail = true);
    sleep(LIFE / 10).await;
    store.trouble(|trouble| trouble.never_answers = true);
    sleep(LIFE / 10).await;
    assert!(store.loads() <= 9, "{} reads", store.loads());
    assert_eq!(process.token().await.unwrap(), token);
    assert_eq!(server.token_request_count(), 1);
    assert_eq!(process.events.count("StoreFailed"), 0);
}

#[tokio::test(start_paused = true)]
async fn f46_a_process_whose_token_was_refused_gets_the_one_that_another_one_obtained() {
    for rotates in [true, false] {
        let (server, store) = (server(LIFE), hinting(Hints::Honest));
        let initial = server.issue_refresh_token("cli");
        let start = || Process::of_grant(rotates, &server, &initial, &store);
        let (first, second) = (start(), start());
        first.token().await.unwrap();
        let refused = second.token().await.unwrap();
        server.script(Reply::oauth_error(429, "slow_down").header("retry-after", "60"));
        second.tokens.reject(1);
        sleep(SECOND).await;
        assert!(second.tokens.current().is_none(), "it has failed, and has to wait");
        let token = first.tokens.refresh().await.unwrap();
        sleep(SECOND).await;
        assert_eq!(&second.token().await.unwrap(), token.access_token().expose());
        assert_ne!(refused, token.access_token().expose());
        assert_eq!(server.token_request_count(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn f46_a_token_that_was_refused_here_is_not_adopted_under_another_generation() {
    let (server, store) = (server(LIFE), hinting(Hints::Honest));
    let same = json!({"access_token": "the-same", "token_type": "Bearer", "expires_in": 100});
    server.always(Reply::json(200, same));
    let (first, second) = (
        Process::start(client_credentials(&server), &store),
        Process::start(client_credentials(&server), &store),
    );
    first.token().await.unwrap();
    second.token().await.unwrap();
    server.script(Reply::oauth_error(400, "invalid_client"));
    second.tokens.reject(1);
    assert_eq!(second.token().await.unwrap_err().kind(), ErrorKind::InvalidClient);
    let generation = store.record().generation();
    first.tokens.refresh().await.unwrap();
    assert!(store.record().generation() > generation);
    sleep(SECOND * 10).await;
    assert!(second.tokens.current().is_none(), "{}", second.events.all());
}

#[tokio::test(start_paused = true)]
async fn f46_an_older_record_is_not_adopted_whatever_a_hint_says() {
    let (server, store) = (server(LIFE), hinting(Hints::Always));
    let initial = server.issue_refresh_token("cli");
    let process = Process::start(refresh(&server, &*initial), &store);
    process.token().await.unwrap();
    let old = store.record();
    let newest = process.tokens.refresh().await.unwrap();
    let before = store.loads();
    store.restore(Some(&old));
    sleep(SECOND * 10).await;
    assert!(store.loads() > before, "nobody looked");
    assert_eq!(&process.token().await.unwrap(), newest.access_token().expose());
}

/// Which of two pairs lives is found out by a renewal, which keeps the other one aside.
#[tokio::test(start_paused = true)]
async fn f46_tokens_that_are_in_memory_alone_are_not_given_up_for_a_hint() {
    stays_while_others_store(WithoutStore::Wait, |trouble| trouble.commits_fail = true).await;
}

/// As the one before, of tokens that were obtained without the store, and so without its lock.
#[tokio::test(start_paused = true)]
async fn f46_tokens_that_were_obtained_without_the_store_are_not_given_up_for_a_hint() {
    stays_while_others_store(WithoutStore::Spend, |trouble| trouble.reads_fail = true).await;
}

async fn stays_while_others_store(without_store: WithoutStore, trouble: fn(&mut Trouble)) {
    let (server, store) = (server(LIFE), hinting(Hints::Always));
    let initial = server.issue_refresh_token("cli");
    let other = Process::start(refresh(&server, &*initial), &store);
    other.token().await.unwrap();
    let first = store.record();
    for _ in 0..3 {
        other.tokens.refresh().await.unwrap();
    }
    other.tokens.shutdown().await;
    let newer = store.record();
    store.restore(Some(&first));
    let process = Process::with(refresh(&server, &*initial), &store, |persisted| {
        persisted.without_store(without_store)
    });
    process.token().await.unwrap();
    store.trouble(trouble);
    let token = process.tokens.refresh().await.unwrap();
    assert_eq!(process.events.count("NotSaved"), 1);
    // What is there is seen from here on.
    store.trouble(|trouble| trouble.reads_fail = false);
    let before = store.loads();
    store.restore(Some(&newer));
    sleep(SECOND * 3).await;
    assert!(store.loads() > before, "nobody looked");
    assert_eq!(&process.token().await.unwrap(), token.access_token().expose());
}

/// It counts no generations, whatever put it there: which one is the newer is not to be told.
#[tokio::test(start_paused = true)]
async fn f46_another_record_of_the_same_generation_is_not_adopted_whatever_a_hint_says() {
    let (server, store, elsewhere) = (strict(), hinting(Hints::Always), TestStore::new());
    let process = Process::start(client_credentials(&server), &store);
    let token = process.token().await.unwrap();
    let other = Process::start(client_credentials(&server), &elsewhere);
    other.token().await.unwrap();
    assert_eq!(store.record().generation(), elsewhere.record().generation());
    store.restore(Some(&elsewhere.record()));
    let before = store.loads();
    sleep(SECOND * 10).await;
    assert!(store.loads() > before, "nobody looked");
    assert_eq!(process.token().await.unwrap(), token);
}

#[tokio::test(start_paused = true)]
async fn f46_a_hint_for_another_record_means_nothing() {
    let (server, store) = (strict(), hinting(Hints::Honest));
    let (alice, bob) = (server.issue_refresh_token("cli"), server.issue_refresh_token("cli"));
    let first = Process::start(refresh(&server, &*alice), &store);
    let second = Process::start(refresh(&server, &*bob), &store);
    first.token().await.unwrap();
    let token = second.token().await.unwrap();
    let before = store.loads();
    first.tokens.refresh().await.unwrap();
    sleep(SECOND * 5).await;
    assert_eq!(second.token().await.unwrap(), token);
    assert_eq!(store.loads(), before + 1, "the renewal's own");
}
