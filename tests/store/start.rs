//! A process that starts: what it takes from the store, and what it leaves there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, advance, sleep};
use tower_oauth::{
    Error, ErrorKind, FetchContext, Scopes, TokenSet,
    source::Identity,
    source_fn,
    store::{Persisted, RecordState},
    testing::Reply,
};

use crate::harness::{
    LIFE, Process, TestStore, client_credentials, fetch, refresh, replaceable, sent, strict,
    transport,
};

#[tokio::test(start_paused = true)]
async fn a_stored_token_is_used_without_a_token_request() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let first = Process::start(refresh(&server, &*initial), &store);
    let token = first.token().await.unwrap();
    first.tokens.shutdown().await;
    advance(Duration::from_secs(30)).await;

    let second = Process::start(refresh(&server, &*initial), &store);
    assert_eq!(second.token().await.unwrap(), token);
    assert_eq!(server.token_request_count(), 1);
    assert_eq!(second.events.count("Adopted"), 1, "{}", second.events.all());
    // It is served for what is left of its life.
    let left = second.tokens.status().expires_at().unwrap() - Instant::now();
    assert!(left <= Duration::from_secs(70) && left > Duration::from_secs(64), "{left:?}");
    // And renewed with what was stored, not with the refresh token that is spent.
    sleep(LIFE).await;
    assert_ne!(second.token().await.unwrap(), token);
    assert!(!server.reuse_detected());
}

#[tokio::test(start_paused = true)]
async fn a_stored_token_that_has_expired_is_not_used() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let first = Process::start(refresh(&server, &*initial), &store);
    let token = first.token().await.unwrap();
    first.tokens.shutdown().await;
    advance(LIFE).await;
    let second = Process::start(refresh(&server, &*initial), &store);
    assert_ne!(second.token().await.unwrap(), token);
    assert_eq!(server.token_request_count(), 2);
    assert!(!server.reuse_detected());
}

/// Nobody says how long the token lives: each process once gave it the default hour anew.
#[tokio::test(start_paused = true)]
async fn f55_a_stored_token_of_unknown_lifetime_expires_when_it_would_where_it_was_obtained() {
    let (server, store) = (strict(), TestStore::new());
    server.omit_expires_in(true);
    let start = || Process::start(client_credentials(&server), &store);
    let first = start();
    let token = first.token().await.unwrap();
    first.tokens.shutdown().await;
    sleep(Duration::from_secs(2000)).await;

    let second = start();
    assert_eq!(second.token().await.unwrap(), token);
    let left = second.tokens.status().expires_at().unwrap() - Instant::now();
    assert!((1590..=1600).contains(&left.as_secs()), "{left:?}");
    second.tokens.shutdown().await;
    sleep(left).await;

    assert_ne!(start().token().await.unwrap(), token);
    assert_eq!(server.token_request_count(), 2);
}

/// The record's expiry counted from before the exchange by a clock that stands still in a sleep, back
/// from one that does not.
#[tokio::test(start_paused = true)]
async fn f49_f55_a_sleep_during_the_exchange_does_not_make_a_stored_token_live_longer() {
    let store = TestStore::new();
    let source = || {
        let clock = store.clock.clone();
        let source = source_fn(move |_| {
            let clock = clock.clone();
            async move {
                let token = TokenSet::bearer("t")?.with_lifetime(LIFE).with_sent_at(Instant::now());
                clock.sleep_machine(Duration::from_secs(60));
                sleep(Duration::from_secs(1)).await;
                Ok::<_, Error>(token)
            }
        });
        let identity = Identity::new("https://as.example/token", "c");
        Persisted::identified(identity, source, store.clone())
    };
    fetch(&source(), &store).await.unwrap();
    let token = fetch(&source(), &store).await.unwrap();
    assert_eq!(token.lifetime(), Some(LIFE));
    assert_eq!(token.sent_at().unwrap().elapsed(), Duration::from_secs(61));
}

#[tokio::test(start_paused = true)]
async fn a_clients_own_token_is_shared_without_an_intent() {
    let (server, store) = (strict(), TestStore::new());
    let first = Process::start(client_credentials(&server), &store);
    let second = Process::start(client_credentials(&server), &store);
    assert_eq!(first.token().await.unwrap(), second.token().await.unwrap());
    assert_eq!(server.token_request_count(), 1);
    assert_eq!(store.saves(), [(1, RecordState::Clean)]);
}

/// The clock of the machine that stored the token was a day ahead.
#[tokio::test(start_paused = true)]
async fn f55_a_clock_that_is_behind_does_not_make_a_token_live_longer() {
    for (seconds, fetches) in [(-86_400, 1), (86_400, 2)] {
        let (server, store) = (strict(), TestStore::new());
        let first = Process::start(client_credentials(&server), &store);
        first.token().await.unwrap();
        first.tokens.shutdown().await;
        store.clock.set_wall(seconds);
        let other = Process::start(client_credentials(&server), &store);
        other.token().await.unwrap();
        let left = other.tokens.status().expires_at().unwrap() - Instant::now();
        assert!(left <= LIFE, "{left:?}");
        assert_eq!(server.token_request_count(), fetches, "{seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfr_13_an_old_refresh_token_does_not_reach_a_new_issuer() {
    let (old, new, store) = (strict(), strict(), TestStore::new());
    // Even if the store has it under the new one's name.
    store.trouble(|trouble| trouble.ignores_keys = true);
    let at = |server: &tower_oauth::testing::AuthorizationServer, initial: &str, path: &str| {
        tower_oauth::RefreshToken::builder(
            format!("https://as.test/token{path}"),
            tower_oauth::ClientAuth::none("cli"),
            initial,
        )
        .transport(transport(server))
        .build()
        .unwrap()
    };
    let first = Process::start(at(&old, &old.issue_refresh_token("cli"), ""), &store);
    first.token().await.unwrap();
    first.tokens.shutdown().await;

    let initial = new.issue_refresh_token("cli");
    let second = Process::start(at(&new, &initial, "?new"), &store);
    second.token().await.unwrap();
    assert_eq!(sent(&new), [initial]);
    let ignored = r#"RecordIgnored { what: "issuer" }"#;
    assert!(second.events.all().contains(ignored), "{}", second.events.all());
}

#[tokio::test(start_paused = true)]
async fn rfr_12_two_users_of_one_client_have_a_record_each() {
    let (server, store) = (strict(), TestStore::new());
    let users = [server.issue_refresh_token("cli"), server.issue_refresh_token("cli")];
    let mut tokens = Vec::new();
    for initial in &users {
        let process = Process::start(refresh(&server, &**initial), &store);
        tokens.push(process.token().await.unwrap());
    }
    assert_ne!(tokens[0], tokens[1]);
    assert_eq!(sent(&server), users);
    assert_eq!(store.records(), 2);
}

#[tokio::test(start_paused = true)]
async fn f08_access_that_is_given_again_starts_over() {
    for named in [false, true] {
        let (server, store) = (strict(), TestStore::new());
        let (value, initial) = replaceable(&server.issue_refresh_token("cli"));
        let process = Process::with(refresh(&server, initial.clone()), &store, |persisted| {
            if named { persisted.subject("alice") } else { persisted }
        });
        process.token().await.unwrap();
        server.revoke_all();
        let ended = process.tokens.refresh().await.unwrap_err();
        assert_eq!(ended.kind(), ErrorKind::InvalidGrant);
        assert_eq!(store.record().state(), RecordState::Dead);
        assert!(process.events.all().contains("Ended { generation: 1 }"));
        process.tokens.shutdown().await;

        // A restart does not try again what the store says is dead.
        let before = server.token_request_count();
        let again = Process::with(refresh(&server, initial), &store, |persisted| {
            if named { persisted.subject("alice") } else { persisted }
        });
        let error = again.token().await.unwrap_err();
        assert!(error.needs_user() && error.to_string().contains("give access again"), "{error}");
        assert_eq!(server.token_request_count(), before);

        let fresh = server.issue_refresh_token("cli");
        value.lock().unwrap().clone_from(&fresh);
        let token = again.tokens.refresh().await.unwrap();
        assert!(server.is_active(token.access_token().expose()));
        assert_eq!(sent(&server).last(), Some(&fresh));
        assert!(!server.reuse_detected());
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_of_a_named_subject_that_lives_is_used_whatever_the_grant_begins_with() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let first = Process::with(refresh(&server, &*initial), &store, |p| p.subject("alice"));
    let token = first.token().await.unwrap();
    let other = server.issue_refresh_token("cli");
    let second = Process::with(refresh(&server, &*other), &store, |p| p.subject("alice"));
    assert_eq!(second.token().await.unwrap(), token);
    assert_eq!(server.token_request_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn f08_access_that_is_given_again_meanwhile_is_used_at_once() {
    let (server, store) = (strict(), TestStore::new());
    let (value, initial) = replaceable(&server.issue_refresh_token("cli"));
    let process = Process::with(refresh(&server, initial), &store, |p| p.subject("alice"));
    process.token().await.unwrap();
    server.revoke_all();
    // It is replaced while the old one is on its way.
    server.script(Reply::honest().delay(Duration::from_secs(2)));
    let fresh = server.issue_refresh_token("cli");
    let (token, ()) = tokio::join!(process.tokens.refresh(), async {
        sleep(Duration::from_secs(1)).await;
        value.lock().unwrap().clone_from(&fresh);
    });
    assert!(server.is_active(token.unwrap().access_token().expose()));
    assert_eq!(store.record().state(), RecordState::Clean);
    assert!(!server.reuse_detected());
}

/// The grant ended and access was given again between two renewals. The record was then marked as
/// ended under the new credential, though its tokens were of the old one; and since the two were the
/// same from then on, the new credential was never sent, by no process.
#[tokio::test(start_paused = true)]
async fn f08_i9_access_that_is_given_again_before_the_end_was_noticed_is_used() {
    for named in [false, true] {
        let (server, store) = (strict(), TestStore::new());
        let (value, initial) = replaceable(&server.issue_refresh_token("cli"));
        let start = || {
            Process::with(refresh(&server, initial.clone()), &store, |persisted| {
                if named { persisted.subject("alice") } else { persisted }
            })
        };
        let process = start();
        process.token().await.unwrap();
        server.revoke_all();
        let fresh = server.issue_refresh_token("cli");
        value.lock().unwrap().clone_from(&fresh);
        let token = process.tokens.refresh().await.unwrap();
        assert!(server.is_active(token.access_token().expose()), "{named}");
        assert_eq!(sent(&server).last(), Some(&fresh));
        assert!(!server.reuse_detected());
        // What descends from it is marked as such: the old credential means nothing any more.
        sleep(LIFE).await;
        assert!(server.is_active(&start().token().await.unwrap()));
    }
}

/// Without a refresh token, each token descends from the credential as it was then. So the end of the
/// newest one is the end of that credential, which is not tried once more.
#[tokio::test(start_paused = true)]
async fn f08_a_token_without_a_refresh_token_descends_from_what_it_was_fetched_with() {
    let (store, calls) = (TestStore::new(), Arc::new(AtomicUsize::new(0)));
    let (value, credential) = replaceable("first");
    let counted = calls.clone();
    let source = source_fn(move |_: FetchContext| {
        let call = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            match call {
                0 | 1 => Ok(TokenSet::bearer("t")?.with_lifetime(LIFE)),
                _ => Err(Error::new(ErrorKind::InvalidGrant, "it has ended")),
            }
        }
    });
    let identity = Identity::new("https://as.example/token", "c").rotating();
    let identity = identity.credential(credential).subject("alice");
    let source = Persisted::identified(identity, source, store.clone());
    fetch(&source, &store).await.unwrap();
    "second".clone_into(&mut value.lock().unwrap());
    sleep(LIFE).await;
    fetch(&source, &store).await.unwrap();
    sleep(LIFE).await;
    assert_eq!(fetch(&source, &store).await.unwrap_err().kind(), ErrorKind::InvalidGrant);
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_source_of_ones_own_is_stored_under_the_identity_it_is_given() {
    let store = TestStore::new();
    let source = |token: &'static str| {
        source_fn(move |_: FetchContext| async move {
            Ok::<_, Error>(TokenSet::bearer(token)?.with_lifetime(LIFE))
        })
    };
    let identity = || Identity::new("https://sidecar.example", "orders");
    let kept = |identity, token| Persisted::identified(identity, source(token), store.clone());
    let token = fetch(&kept(identity(), "one"), &store).await.unwrap();
    assert_eq!(token.access_token().expose(), "one");
    let token = fetch(&kept(identity(), "two"), &store).await.unwrap();
    assert_eq!(token.access_token().expose(), "one");
    let mut scopes = Scopes::default();
    scopes.insert("more").unwrap();
    let token = fetch(&kept(identity().scopes(scopes), "three"), &store).await.unwrap();
    assert_eq!(token.access_token().expose(), "three");
}

/// A pool of services behind a load balancer has one initial token in a file that is gone later.
#[tokio::test(start_paused = true)]
async fn an_initial_token_that_is_gone_is_needed_only_to_tell_the_record() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let first = Process::with(refresh(&server, &*initial), &store, |p| p.subject("alice"));
    let token = first.token().await.unwrap();
    let gone = tower_oauth::SecretSource::file("/nonexistent/refresh-token");
    let named = Persisted::new(refresh(&server, gone.clone()), store.clone()).subject("alice");
    assert_eq!(fetch(&named, &store).await.unwrap().access_token().expose(), token);
    let unnamed = Persisted::new(refresh(&server, gone), store.clone());
    let error = fetch(&unnamed, &store).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential);
}

#[tokio::test(start_paused = true)]
async fn debug_shows_no_secret() {
    let store = TestStore::new();
    let persisted = Persisted::new(refresh(&strict(), "hunter2"), store.clone());
    fetch(&persisted, &store).await.unwrap_err();
    let shown = format!("{persisted:?}");
    assert!(shown.contains("RefreshToken") && !shown.contains("hunter2"), "{shown}");
}
