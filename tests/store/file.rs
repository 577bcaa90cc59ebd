//! Tokens in files: what damages them, and what is refused.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use tower_oauth::{
    Error, ErrorKind, FetchContext, SecretSource, TokenSet, TokenSource,
    observe::FetchReason,
    source::{Identified, Identity},
    source_fn,
    store::{FileStore, KeyRing, Persisted},
    testing::{AuthorizationServer, Reply},
};

use crate::{
    harness::{Events, client_credentials, refresh, replaceable, sent, server, strict},
    temporary::{Temporary, ring},
};

mod conformance {
    tower_oauth::store_conformance!(tower_oauth::store::FileStore::temporary().unwrap());
}

/// Makes a source of a file store, as a process that starts does.
fn start<P: Identified>(source: P, folder: &Temporary) -> (Persisted<P, FileStore>, Events) {
    with(source, folder.store())
}

fn with<P: Identified>(source: P, store: FileStore) -> (Persisted<P, FileStore>, Events) {
    let events = Events::default();
    let store = store.observer(events.observer());
    (Persisted::new(source, store).observer(events.observer()), events)
}

async fn fetch(source: &impl TokenSource, previous: Option<&TokenSet>) -> Result<TokenSet, Error> {
    let mut cx = FetchContext::first();
    if let Some(previous) = previous {
        cx.previous = Some(Arc::new(previous.clone()));
        cx.reason = FetchReason::Requested;
    }
    source.fetch(cx).await
}

/// A process that has fetched twice, so that there is a record and one before it.
async fn twice(server: &AuthorizationServer, folder: &Temporary) -> (String, [TokenSet; 2]) {
    let initial = server.issue_refresh_token("cli");
    let (source, _) = start(refresh(server, &*initial), folder);
    let first = fetch(&source, None).await.unwrap();
    let second = fetch(&source, Some(&first)).await.unwrap();
    (initial, [first, second])
}

#[tokio::test]
async fn a_token_outlives_the_process_sealed() {
    let (server, folder) = (strict(), Temporary::new());
    let initial = server.issue_refresh_token("cli");
    let (source, _) = start(refresh(&server, &*initial), &folder);
    let token = fetch(&source, None).await.unwrap();
    drop(source);
    let (source, events) = start(refresh(&server, &*initial), &folder);
    let again = fetch(&source, None).await.unwrap();
    assert_eq!(again.access_token(), token.access_token());
    assert_eq!(again.refresh_token(), token.refresh_token());
    assert_eq!((server.token_request_count(), events.count("Adopted")), (1, 1));

    for file in folder.files("") {
        let bytes = fs::read(&file).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for secret in [token.access_token(), token.refresh_token().unwrap(), &(&*initial).into()] {
            assert!(!text.contains(secret.expose()), "{} shows a token", file.display());
        }
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{}",
            file.display()
        );
    }
    assert_eq!(folder.tokens().metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn f33_a_damaged_file_is_kept_aside_and_the_one_before_used() {
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    let empty = |bytes: &mut Vec<u8>| bytes.clear();
    let changed = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1;
    let other = |bytes: &mut Vec<u8>| *bytes = b"{\"access_token\":\"x\"}".to_vec();
    for damage in [cut as fn(&mut Vec<u8>), empty, changed, other] {
        let (server, folder) = (server(Duration::from_secs(30)), Temporary::new());
        let (initial, _) = twice(&server, &folder).await;
        let path = folder.only(".token");
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, &bytes).unwrap();

        // The one before says that a renewal was begun: it is gone on with.
        let (source, events) = start(refresh(&server, &*initial), &folder);
        let token = fetch(&source, None).await.unwrap();
        assert!(server.is_active(token.access_token().expose()));
        assert!(events.all().contains("damaged file"), "{}", events.all());
        assert_eq!(fs::read(folder.only(".damaged")).unwrap(), bytes);
        assert!(!server.reuse_detected());
        let (source, _) = start(refresh(&server, &*initial), &folder);
        let again = fetch(&source, None).await.unwrap();
        assert_eq!(again.access_token(), token.access_token());
    }
}

#[tokio::test]
async fn f33_without_a_good_file_nothing_is_sent_and_nothing_overwritten() {
    let (server, folder) = (strict(), Temporary::new());
    let (initial, [_, newest]) = twice(&server, &folder).await;
    let good = fs::read(folder.only(".token")).unwrap();
    fs::write(folder.only(".token"), b"").unwrap();
    fs::write(folder.only(".previous"), b"toS").unwrap();
    server.reset_ledger();

    let (source, events) = start(refresh(&server, &*initial), &folder);
    for _ in 0..2 {
        let error = fetch(&source, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().contains("to start over, remove the file"), "{error}");
    }
    assert!(events.count("StoreFailed") > 0);
    assert_eq!(server.token_request_count(), 0);
    // Nor is a token missed that can be had at any time.
    let (own, _) = start(client_credentials(&server), &folder);
    fetch(&own, None).await.unwrap();

    let damaged =
        folder.files(".token").into_iter().find(|path| fs::read(path).unwrap().is_empty());
    fs::write(damaged.unwrap(), good).unwrap();
    let token = fetch(&source, None).await.unwrap();
    assert_eq!(token.access_token(), newest.access_token());
}

#[tokio::test]
async fn f33_f48_a_key_that_is_not_there_is_an_error_and_not_damage() {
    let (server, folder) = (strict(), Temporary::new());
    let (initial, [_, newest]) = twice(&server, &folder).await;
    let before = fs::read(folder.only(".token")).unwrap();
    let store = |ring| FileStore::new(folder.tokens(), ring);
    let other = || KeyRing::new("k2", "02".repeat(32)).unwrap();
    let wrong = KeyRing::new("k1", "02".repeat(32)).unwrap();
    for (ring, problem) in [(other(), "\"k1\""), (wrong, "does not open")] {
        let (source, _) = with(refresh(&server, &*initial), store(ring));
        let error = fetch(&source, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().contains(problem), "{error}");
        assert_eq!(fs::read(folder.only(".token")).unwrap(), before);
    }
    // A ring that has both opens it, and seals with the first one.
    let ring = other().or("k1", "01".repeat(32)).unwrap();
    let (source, _) = with(refresh(&server, &*initial), store(ring));
    let token = fetch(&source, None).await.unwrap();
    assert_eq!(token.access_token(), newest.access_token());
    fetch(&source, Some(&token)).await.unwrap();
    let (source, _) = with(refresh(&server, &*initial), store(other()));
    fetch(&source, None).await.unwrap();
    assert!(!server.reuse_detected());
}

#[tokio::test]
async fn f48_a_file_of_a_newer_version_is_refused_and_stays() {
    let (server, folder) = (strict(), Temporary::new());
    let (initial, _) = twice(&server, &folder).await;
    let path = folder.only(".token");
    let mut bytes = fs::read(&path).unwrap();
    bytes[3] = 2;
    fs::write(&path, &bytes).unwrap();
    let (source, _) = start(refresh(&server, &*initial), &folder);
    let error = fetch(&source, None).await.unwrap_err();
    assert!(error.to_string().contains("up to date"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn f47_a_file_of_another_credential_or_store_does_not_open() {
    let (server, folder) = (strict(), Temporary::new());
    let (initial, _) = twice(&server, &folder).await;
    let other = server.issue_refresh_token("cli");
    let theirs = folder.only(".token");
    let (source, _) = start(refresh(&server, &*other), &folder);
    fetch(&source, None).await.unwrap();
    let ours = folder.files(".token").into_iter().find(|path| *path != theirs).unwrap();
    fs::copy(&theirs, &ours).unwrap();
    for previous in folder.files(".previous") {
        fs::remove_file(previous).unwrap();
    }
    server.reset_ledger();
    let (source, _) = start(refresh(&server, &*other), &folder);
    assert_eq!(fetch(&source, None).await.unwrap_err().kind(), ErrorKind::Store);

    let (source, _) = with(refresh(&server, &*initial), folder.store().name("another"));
    assert_eq!(fetch(&source, None).await.unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(server.token_request_count(), 0);
}

#[tokio::test]
async fn rfr_14_f60_a_file_that_others_may_have_read_is_refused() {
    let (server, folder) = (strict(), Temporary::new());
    let (initial, [_, newest]) = twice(&server, &folder).await;
    let path = folder.only(".token");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let (source, _) = start(refresh(&server, &*initial), &folder);
    let error = fetch(&source, None).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.kind() == ErrorKind::Store && cause.contains("chmod 600"), "{error}: {cause}");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let token = fetch(&source, None).await.unwrap();
    assert_eq!(token.access_token(), newest.access_token());
}

#[tokio::test]
async fn rfr_14_a_link_is_not_followed_out_of_the_folder() {
    let (server, folder) = (strict(), Temporary::new());
    let (initial, _) = twice(&server, &folder).await;
    let (path, elsewhere) = (folder.only(".token"), folder.path().join("elsewhere"));
    fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    let (source, _) = start(refresh(&server, &*initial), &folder);
    let error = fetch(&source, None).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("symbolic link"), "{error}: {cause}");
}

/// The folder is gone, and something else is in its place: nothing can be written there, not even
/// by root, whom permissions do not stop.
#[tokio::test]
async fn f34_where_the_folder_is_gone_a_token_is_served_from_memory_and_stored_later() {
    let (server, folder) = (strict(), Temporary::new());
    let initial = server.issue_refresh_token("cli");
    let (source, events) = start(refresh(&server, &*initial), &folder);
    let first = fetch(&source, None).await.unwrap();
    let hidden = folder.path().join("hidden");
    let hide = || {
        fs::rename(folder.tokens(), &hidden).unwrap();
        fs::write(folder.tokens(), b"not a folder").unwrap();
    };
    // It goes between the intent and the answer.
    server.script(Reply::honest().delay(Duration::from_millis(300)));
    let (second, ()) = tokio::join!(fetch(&source, Some(&first)), async {
        second_answer(&server).await;
        hide();
    });
    let second = second.unwrap();
    assert!(server.is_active(second.access_token().expose()));
    assert_eq!(events.count("NotSaved"), 1, "{}", events.all());
    fs::remove_file(folder.tokens()).unwrap();
    fs::rename(&hidden, folder.tokens()).unwrap();

    let mut cx = FetchContext::first();
    cx.previous = Some(Arc::new(second.clone()));
    cx.reason = FetchReason::Due;
    let stored = source.fetch(cx).await.unwrap();
    assert_eq!(stored.access_token(), second.access_token());
    drop(source);
    let (source, _) = start(refresh(&server, &*initial), &folder);
    let adopted = fetch(&source, None).await.unwrap();
    assert_eq!(adopted.access_token(), second.access_token());
    assert_eq!(sent(&server).len(), 2);
}

/// A disk of 64 KiB, full. Needs the right to mount one.
#[tokio::test]
async fn f34_on_a_full_disk_nothing_is_spent_and_nothing_lost() {
    let (server, folder) = (strict(), Temporary::new());
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let Some(_mounted) = Mounted::new(&disk) else {
        return; // no right to mount a disk
    };
    let initial = server.issue_refresh_token("cli");
    let store = || FileStore::new(disk.join("tokens"), ring());
    let (source, _) = with(refresh(&server, &*initial), store());
    let first = fetch(&source, None).await.unwrap();

    let filler = disk.join("filler");
    let fill = || {
        use std::io::Write;
        let mut file = fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 1024]).is_ok() {}
    };
    fill();
    let error = fetch(&source, Some(&first)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
    assert_eq!(sent(&server).len(), 1, "it was spent, although nothing could be written");

    // It fills up in the middle.
    fs::remove_file(&filler).unwrap();
    server.script(Reply::honest().delay(Duration::from_millis(300)));
    let (second, ()) = tokio::join!(fetch(&source, Some(&first)), async {
        second_answer(&server).await;
        fill();
    });
    let second = second.unwrap();
    fs::remove_file(&filler).unwrap();
    let third = fetch(&source, Some(&second)).await.unwrap();
    drop(source);
    let (source, _) = with(refresh(&server, &*initial), store());
    let adopted = fetch(&source, None).await.unwrap();
    assert_eq!(adopted.access_token(), third.access_token());
    assert!(!server.reuse_detected());
}

/// Until the server has issued its second token.
async fn second_answer(server: &AuthorizationServer) {
    let issued = async {
        while server.issued() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), issued).await.expect("a second token");
}

/// A small disk in memory, for as long as this lives.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(at: &'a Path) -> Option<Self> {
        let options = ["-t", "tmpfs", "-o", "size=64k,mode=700", "tower-oauth-test"];
        let output = Command::new("mount").args(options).arg(at).output().ok()?;
        output.status.success().then_some(Self(at))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// Two stores on one folder are as two processes: locks are not the process', but the file's.
#[tokio::test]
async fn f35_two_stores_on_one_folder_keep_each_other_out() {
    let (server, folder) = (strict(), Temporary::new());
    let initial = server.issue_refresh_token("cli");
    server.always(Reply::honest().delay(Duration::from_millis(50)));
    let (one, _) = start(refresh(&server, &*initial), &folder);
    let (two, _) = start(refresh(&server, &*initial), &folder);
    let (first, second) = tokio::join!(fetch(&one, None), fetch(&two, None));
    assert_eq!(first.unwrap().access_token(), second.unwrap().access_token());
    assert_eq!(server.token_request_count(), 1);
}

#[tokio::test]
async fn a_key_from_a_function_is_asked_for_each_time() {
    let folder = Temporary::new();
    let (value, key) = replaceable(&"01".repeat(32));
    let store = FileStore::new(folder.tokens(), KeyRing::new("k1", key).unwrap());
    let (source, _) = with(client_credentials(&strict()), store);
    fetch(&source, None).await.unwrap();
    "short".clone_into(&mut value.lock().unwrap());
    let (source, _) = with(
        client_credentials(&strict()),
        FileStore::new(folder.tokens(), KeyRing::new("k1", SecretSource::env("NOT_SET")).unwrap()),
    );
    // What needs no store goes on without the key.
    fetch(&source, None).await.unwrap();
}

/// Also what was damaged, copies of what was there before, and a link that somebody put there.
#[tokio::test]
async fn what_is_forgotten_is_in_no_file() {
    let (server, folder) = (server(Duration::from_secs(30)), Temporary::new());
    let (initial, _) = twice(&server, &folder).await;
    for ending in [".new", ".damaged"] {
        let path = folder.only(".token").with_extension(&ending[1..]);
        fs::copy(folder.only(".token"), path).unwrap();
    }
    fs::write(folder.only(".token"), b"damaged").unwrap();
    let store = FileStore::new(folder.tokens(), KeyRing::new("other", "02".repeat(32)).unwrap());
    let (source, _) = with(refresh(&server, &*initial), store);
    source.forget().await.unwrap();
    let left = folder.files("");
    assert!(left.iter().all(|path| path.extension().unwrap() == "lock"), "{left:?}");
    assert_eq!(fs::read(folder.only(".lock")).unwrap(), b"");

    let secret = folder.path().join("elsewhere");
    fs::write(&secret, b"not ours").unwrap();
    let link = folder.only(".lock").with_extension("token");
    std::os::unix::fs::symlink(&secret, &link).unwrap();
    source.forget().await.unwrap();
    assert!(!link.is_symlink() && secret.exists());
}

/// What is larger would not be read again.
#[tokio::test]
async fn a_record_of_exactly_the_largest_size_is_stored_and_a_larger_one_is_not() {
    const LARGEST: usize = 1024 * 1024;
    // How large the file is, for a token of this size.
    let store = async |size: usize| {
        let folder = Temporary::new();
        let source =
            source_fn(move |_: FetchContext| async move { TokenSet::bearer("x".repeat(size)) });
        let identity = || Identity::new("https://as.example/token", "c");
        let start = || Persisted::identified(identity(), source.clone(), folder.store());
        let events = Events::default();
        fetch(&start().observer(events.observer()), None).await.unwrap();
        let refused = events.all().contains("too large to be stored");
        // And it is found again.
        let adopted = Events::default();
        fetch(&start().observer(adopted.observer()), None).await.unwrap();
        assert_eq!(adopted.count("Adopted"), usize::from(!refused), "{}", adopted.all());
        let files = folder.files(".token");
        let file = files.first().map(|file| fs::metadata(file).unwrap().len());
        assert_eq!(file.is_none(), refused, "{}", events.all());
        file.and_then(|size| usize::try_from(size).ok())
    };
    let around = store(1).await.unwrap() - 1;
    assert_eq!(store(LARGEST - around).await, Some(LARGEST));
    assert_eq!(store(LARGEST - around + 1).await, None);
}
