//! Tokens in a keychain, which is locked, missing, slow, or too small.

use std::{env, fs, os::unix::net::UnixListener, process::Command, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower_oauth::{
    Error, ErrorKind, FetchContext, TokenSet, TokenSource,
    observe::FetchReason,
    source::Identity,
    store::{KeyringStore, Persisted},
};

use crate::{
    harness::{Events, refresh, sent, strict},
    keychain::Keychain,
    temporary::Temporary,
};

mod conformance {
    tower_oauth::store_conformance!(crate::keychain::Keychain::new().store());
}

/// The kernel's, which needs no session.
#[cfg(target_os = "linux")]
mod kernel {
    use crate::keychain::Keychain;

    mod conformance {
        tower_oauth::store_conformance!(
            @tests super::keychain().store(),
            what_is_not_there_is_absent
            what_was_saved_is_there
            a_record_changes_only_from_the_expected_generation
            every_state_is_kept
            records_do_not_mix
            the_right_is_one_processs_at_a_time
            a_right_that_is_dropped_comes_back
            a_wait_that_is_given_up_changes_nothing
            the_next_one_sees_what_the_last_one_saved
            a_record_that_was_removed_is_gone
            a_hint_is_a_hint
        );
    }

    fn keychain() -> std::sync::Arc<Keychain> {
        use keyring_core::api::CredentialStoreApi;

        let kernel = linux_keyutils_keyring_store::Store::new().unwrap();
        // Where the session has no keyring, this gives this thread one, and all that it starts.
        kernel.build("tower-oauth", "first", None).unwrap();
        Keychain::around(kernel)
    }

    #[tokio::test]
    async fn f37_a_record_too_large_for_the_kernel_is_refused() {
        let keychain = keychain();
        super::too_large(keychain.store().entry_limit(32_767), "at most 32767").await;
        // Without being told, it is the kernel that says no.
        super::too_large(keychain.store(), "bytes").await;
    }
}

const LATE: Duration = Duration::from_millis(1500);
const SHORT: Duration = Duration::from_millis(200);

async fn fetch(source: &impl TokenSource, previous: Option<&TokenSet>) -> Result<TokenSet, Error> {
    let mut cx = FetchContext::first();
    if let Some(previous) = previous {
        cx.previous = Some(Arc::new(previous.clone()));
        cx.reason = FetchReason::Requested;
    }
    source.fetch(cx).await
}

#[tokio::test]
async fn a_token_outlives_the_process_in_the_keychain() {
    let (server, keychain) = (strict(), Keychain::new());
    let initial = server.issue_refresh_token("cli");
    let first = Persisted::new(refresh(&server, &*initial), keychain.store());
    let token = fetch(&first, None).await.unwrap();
    let token = fetch(&first, Some(&token)).await.unwrap();
    drop(first);
    let second = Persisted::new(refresh(&server, &*initial), keychain.store());
    let again = fetch(&second, None).await.unwrap();
    assert_eq!(again.access_token(), token.access_token());
    fetch(&second, Some(&again)).await.unwrap();
    assert_eq!(sent(&server).len(), 3);
    assert!(!server.reuse_detected());
    // Of another name, it is another store.
    let other = Persisted::new(refresh(&server, &*initial), keychain.store().name("other"));
    assert_eq!(fetch(&other, None).await.unwrap_err().kind(), ErrorKind::InvalidGrant);
}

#[tokio::test]
async fn whoever_logs_out_leaves_no_entry_in_the_keychain() {
    let (server, keychain) = (strict(), Keychain::new());
    let initial = server.issue_refresh_token("cli");
    let source = Persisted::new(refresh(&server, &*initial), keychain.store());
    fetch(&source, None).await.unwrap();
    assert_eq!(keychain.entries(), 1);
    // A locked one is an error, and forgotten later.
    keychain.trouble(|trouble| trouble.locked = true);
    assert_eq!(source.forget().await.unwrap_err().kind(), ErrorKind::Store);
    keychain.trouble(|trouble| trouble.locked = false);
    assert_eq!(keychain.entries(), 1);
    source.forget().await.unwrap();
    assert_eq!(keychain.entries(), 0);
    source.forget().await.unwrap();
}

#[tokio::test]
async fn f37_a_locked_keychain_spends_nothing_and_leaves_nothing_in_files() {
    let (server, keychain) = (strict(), Keychain::new());
    let initial = server.issue_refresh_token("cli");
    let events = Events::default();
    let source = Persisted::new(refresh(&server, &*initial), keychain.store());
    let source = source.observer(events.observer());
    let token = fetch(&source, None).await.unwrap();
    keychain.trouble(|trouble| trouble.locked = true);
    let error = fetch(&source, Some(&token)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("Unlock it"), "{error}");
    assert_eq!((sent(&server).len(), events.count("StoreFailed")), (1, 1));
    assert!(keychain.store().check().await.is_err());
    for file in keychain.folder().files("") {
        assert_eq!(fs::read(&file).unwrap(), b"", "{} is not empty", file.display());
    }
    // Once it is unlocked, all goes on.
    keychain.trouble(|trouble| trouble.locked = false);
    keychain.store().check().await.unwrap();
    fetch(&source, Some(&token)).await.unwrap();
    assert!(!server.reuse_detected());
}

#[tokio::test]
async fn f37_a_rotated_token_too_large_for_the_keychain_is_not_lost() {
    let (server, keychain) = (strict(), Keychain::new());
    let initial = server.issue_refresh_token("cli");
    let events = Events::default();
    let source = Persisted::new(refresh(&server, &*initial), keychain.store());
    let source = source.observer(events.observer());
    // Enough for an intent, and too little for tokens.
    keychain.trouble(|trouble| trouble.limit = Some(450));
    let token = fetch(&source, None).await.unwrap();
    assert_eq!(events.count("NotSaved"), 1, "{}", events.all());
    assert!(events.all().contains("at most 450"), "{}", events.all());
    keychain.trouble(|trouble| trouble.limit = None);
    let again = fetch(&source, Some(&token)).await.unwrap();
    let other = Persisted::new(refresh(&server, &*initial), keychain.store());
    assert_eq!(fetch(&other, None).await.unwrap().access_token(), again.access_token());
    assert!(!server.reuse_detected());
}

#[tokio::test]
async fn f37_a_keychain_that_forgets_is_refused_before_anything_is_sent() {
    let (server, keychain) = (strict(), Keychain::new());
    let initial = server.issue_refresh_token("cli");
    keychain.trouble(|trouble| trouble.forgets = true);
    let source = Persisted::new(refresh(&server, &*initial), keychain.store());
    for error in
        [keychain.store().check().await.unwrap_err(), fetch(&source, None).await.unwrap_err()]
    {
        assert!(error.to_string().contains("forgets"), "{error}");
    }
    assert_eq!(sent(&server).len(), 0);
}

#[tokio::test]
async fn f37_a_damaged_entry_is_told_without_showing_it() {
    let (server, keychain) = (strict(), Keychain::new());
    let initial = server.issue_refresh_token("cli");
    let source = Persisted::new(refresh(&server, &*initial), keychain.store());
    let token = fetch(&source, None).await.unwrap();
    keychain.trouble(|trouble| trouble.damaged = true);
    let error = fetch(&source, Some(&token)).await.unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("damaged"), "{shown}");
    assert!(!shown.contains(token.access_token().expose()), "{shown}");
    assert_eq!(sent(&server).len(), 1);
}

/// A grant whose tokens have 64 KiB.
struct Large;

impl TokenSource for Large {
    async fn fetch(&self, _: FetchContext) -> Result<TokenSet, Error> {
        Ok(TokenSet::bearer("x".repeat(64 * 1024))?.with_lifetime(Duration::from_secs(60)))
    }
}

/// Tokens that are too large for this store are used from memory, and that is told.
#[cfg(target_os = "linux")]
async fn too_large(store: KeyringStore, expected: &str) {
    let subject: String = std::iter::repeat_with(fastrand::alphanumeric).take(20).collect();
    let identity = Identity::new("https://as.example/token", "large").subject(subject);
    let events = Events::default();
    let source = Persisted::identified(identity, Large, store).observer(events.observer());
    fetch(&source, None).await.unwrap();
    assert_eq!(events.count("StoreFailed"), 1, "{}", events.all());
    let told = events.all();
    assert!(told.contains(expected) && told.len() < 1024, "{told}");
}

#[tokio::test(flavor = "current_thread")]
async fn f37_a_slow_keychain_is_waited_for_off_the_async_threads_and_not_for_long() {
    let keychain = Keychain::new();
    keychain.trouble(|trouble| trouble.read_takes = LATE);
    let (server, store) = (strict(), keychain.store().timeout(SHORT));
    let initial = server.issue_refresh_token("cli");
    let source = Persisted::new(refresh(&server, &*initial), store);
    let start = Instant::now();
    let mut ticks = 0;
    let error = tokio::select! {
        outcome = fetch(&source, None) => outcome.unwrap_err(),
        () = async { loop { sleep(SHORT / 20).await; ticks += 1 } } => unreachable!(),
    };
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("200ms"), "{error}");
    assert!(start.elapsed() < LATE, "it took {:?}", start.elapsed());
    assert!(ticks > 5, "the thread was blocked: {ticks}");
    assert_eq!(sent(&server).len(), 0);
}

/// However many ask, a keychain that hangs takes four threads at most.
#[tokio::test]
async fn f37_a_silent_keychain_does_not_take_more_and_more_threads() {
    let keychain = Keychain::new();
    keychain.trouble(|trouble| trouble.write_takes = LATE);
    let store = keychain.store().timeout(SHORT);
    let start = Instant::now();
    let mut checks = JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        checks.spawn(async move { store.check().await });
    }
    for check in checks.join_all().await {
        assert_eq!(check.unwrap_err().kind(), ErrorKind::Store);
    }
    assert!(start.elapsed() < LATE, "it took {:?}", start.elapsed());
    assert_eq!(keychain.most_at_once(), 4);
}

/// A write that is late must not land on what another process has stored meanwhile.
#[tokio::test]
async fn f37_a_late_write_keeps_the_lock_until_it_is_done() {
    let (server, keychain) = (strict(), Keychain::new());
    let initial = server.issue_refresh_token("cli");
    let slow = Persisted::new(refresh(&server, &*initial), keychain.store().timeout(SHORT));
    keychain.trouble(|trouble| trouble.write_takes = LATE);
    let start = Instant::now();
    // The intent is not known to be stored, so nothing is sent.
    assert_eq!(fetch(&slow, None).await.unwrap_err().kind(), ErrorKind::Store);
    assert!(start.elapsed() < LATE);
    drop(slow);
    keychain.trouble(|trouble| trouble.write_takes = Duration::ZERO);
    let other = Persisted::new(refresh(&server, &*initial), keychain.store());
    fetch(&other, None).await.unwrap();
    assert!(start.elapsed() >= LATE, "the lock was given back before the write was done");
    let third = Persisted::new(refresh(&server, &*initial), keychain.store());
    fetch(&third, None).await.unwrap();
    assert_eq!(sent(&server).len(), 1);
}

/// The keychain of whoever runs this, which may ask to be unlocked.
#[tokio::test]
#[ignore = "it needs a session with a keychain, and leaves an entry in it"]
async fn a_token_is_shared_in_the_keychain_of_the_system() {
    let (server, folder) = (strict(), Temporary::new());
    let initial = server.issue_refresh_token("cli");
    let store = || KeyringStore::new(folder.tokens()).name("tower-oauth-test");
    store().timeout(Duration::from_secs(60)).check().await.unwrap();
    let mut token = None;
    for _ in 0..3 {
        let source = Persisted::new(refresh(&server, &*initial), store());
        token = Some(fetch(&source, token.as_ref()).await.unwrap());
    }
    let other = Persisted::new(refresh(&server, &*initial), store());
    let adopted = fetch(&other, None).await.unwrap();
    assert_eq!(adopted.access_token(), token.unwrap().access_token());
    assert_eq!(server.token_request_count(), 3);
    assert!(!server.reuse_detected());
}

/// A process whose session is what its environment says.
#[tokio::test]
#[ignore = "it is run by another test, in a process of its own"]
async fn without_a_keychain() {
    let Ok(folder) = env::var("TEST_LOCKS") else { return };
    let server = strict();
    let initial = server.issue_refresh_token("cli");
    let store = KeyringStore::new(folder).timeout(SHORT * 3);
    let start = Instant::now();
    let error = store.check().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("keychain"), "{error}");
    let source = Persisted::new(refresh(&server, &*initial), store);
    assert_eq!(fetch(&source, None).await.unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(server.token_request_count(), 0);
    assert!(start.elapsed() < Duration::from_secs(3), "it took {:?}", start.elapsed());
}

/// What the process above does in this session.
#[cfg(not(target_os = "macos"))]
fn run_in_session(address: &str, folder: &Temporary) {
    let start = Instant::now();
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "keyring::without_a_keychain", "--ignored", "--nocapture"])
        .env("TEST_LOCKS", folder.tokens())
        .env("DBUS_SESSION_BUS_ADDRESS", address)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}\n{child:?}");
    assert!(start.elapsed() < Duration::from_secs(10), "the process does not end");
}

#[cfg(not(target_os = "macos"))]
#[test]
fn f37_without_a_session_bus_there_is_an_error_and_nothing_is_sent() {
    let folder = Temporary::new();
    run_in_session("unix:path=/nonexistent/bus", &folder);
}

/// Neither does a bus that is silent hold up the end of the process.
#[cfg(not(target_os = "macos"))]
#[test]
fn f37_with_a_session_bus_that_is_silent_the_wait_is_bounded() {
    let folder = Temporary::new();
    let socket = folder.path().join("bus");
    let _silent = UnixListener::bind(&socket).unwrap();
    run_in_session(&format!("unix:path={}", socket.display()), &folder);
}
