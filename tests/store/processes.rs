//! Real processes on one file: many at once, and ones that are stopped and killed.
//!
//! A process is this test's own binary, which runs [`child`] and is told by its environment what to
//! do. How often things are tried is small by default; `TOWER_OAUTH_ROUNDS=200` tries harder.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tower::{Service as _, ServiceExt as _};
use tower_layer::Layer as _;
use tower_oauth::{
    ClientAuth, Error, FetchContext, OAuthLayer, Origins, RefreshToken, TokenHandle, TokenSet,
    TokenSource,
    observe::FetchReason,
    store::{FileStore, Persisted, TokenStore},
    testing::{AuthorizationServer, ProtectedApi, Reply, Rotation},
};

use crate::{
    signal,
    temporary::{Temporary, ring},
};

/// One process of the tests below. It says what it got.
#[tokio::test]
#[ignore = "it is run by other tests, in processes of their own"]
async fn child() {
    if env::var_os("TEST_ENDPOINT").is_none() {
        return;
    }
    let folder = set("TEST_FOLDER");
    #[cfg(feature = "store-redis")]
    if folder.starts_with("redis") {
        let store = tower_oauth::store::RedisStore::builder(folder, ring());
        let lease = Duration::from_millis(set("TEST_LEASE_MS").parse().unwrap());
        return work(store.lease(lease).build().unwrap()).await;
    }
    work(FileStore::new(folder, ring())).await;
}

/// Tells the parent.
#[expect(clippy::print_stdout, reason = "that is how it hears it")]
fn say(line: &str) {
    println!("{line}");
}

fn set(name: &str) -> String {
    env::var(name).unwrap()
}

async fn work(store: impl TokenStore) {
    let endpoint = set("TEST_ENDPOINT");
    let source = RefreshToken::builder(endpoint, ClientAuth::none("cli"), set("TEST_INITIAL"))
        .build()
        .unwrap();
    let wait = Duration::from_millis(set("TEST_LOCK_WAIT_MS").parse().unwrap());
    let persisted = Persisted::new(source, store).lock_wait(wait);
    if let Ok(seconds) = env::var("TEST_SERVE_SECONDS") {
        return serve(persisted, Duration::from_secs(seconds.parse().unwrap())).await;
    }
    let count: usize = set("TEST_COUNT").parse().unwrap();
    let mut previous = None;
    for _ in 0..count {
        let reason = if env::var_os("TEST_FORCED").is_some() {
            FetchReason::Requested
        } else {
            FetchReason::Initial
        };
        match fetch(&persisted, previous.take(), reason).await {
            Ok(token) => {
                say(&format!("got {}", token.access_token().expose()));
                previous = Some(token);
            }
            Err(error) => say(&format!("failed {} {error}", error.kind())),
        }
    }
    say("done");
}

/// Serves for a while, once all are ready: makes requests, and tells of each that failed, and how
/// often there was no token.
async fn serve(source: impl TokenSource, time: Duration) {
    let api = set("TEST_API");
    let tokens = TokenHandle::spawn(source);
    tokens.ready().await.unwrap();
    let origins: Origins = api.parse().unwrap();
    let client = reqwest::Client::builder().redirect(origins.redirect_policy()).build().unwrap();
    let mut client = OAuthLayer::new(tokens.clone(), origins).layer(client);
    let meeting = PathBuf::from(set("TEST_MEETING"));
    fs::write(meeting.join(std::process::id().to_string()), "ready").unwrap();
    while !meeting.join("go").exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let started = Instant::now();
    let (mut missed, mut made) = (0, 0);
    while started.elapsed() < time {
        for _ in 0..10 {
            missed += u32::from(tokens.current().is_none());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let request = reqwest::Request::new(reqwest::Method::GET, api.parse().unwrap());
        match client.ready().await.unwrap().call(request).await {
            Ok(response) if response.status() == 200 => made += 1,
            Ok(response) => say(&format!("failed {}", response.status())),
            Err(error) => say(&format!("failed {error}")),
        }
    }
    assert!(made > 0, "no request was made");
    say(&format!("missed {missed}"));
    say("done");
}

async fn fetch(
    source: &impl TokenSource,
    previous: Option<TokenSet>,
    reason: FetchReason,
) -> Result<TokenSet, Error> {
    let mut cx = FetchContext::first();
    cx.previous = previous.map(Arc::new);
    cx.reason = reason;
    source.fetch(cx).await
}

/// What a process is to do.
pub(crate) struct Job<'a> {
    pub(crate) server: &'a AuthorizationServer,
    /// The folder, or the URL of a Redis server.
    pub(crate) place: String,
    pub(crate) initial: &'a str,
    pub(crate) count: usize,
    pub(crate) forced: bool,
    /// To serve for as long, with requests to this API, once there is a file `go` in the folder where
    /// each process makes one when it is ready.
    pub(crate) serve: Option<(Duration, &'a ProtectedApi, &'a Temporary)>,
    pub(crate) lock_wait: Duration,
    pub(crate) lease: Duration,
    pub(crate) fail_point: Option<String>,
}

impl<'a> Job<'a> {
    fn new(server: &'a AuthorizationServer, folder: &Temporary, initial: &'a str) -> Self {
        Self::at(server, folder.tokens().to_str().unwrap(), initial)
    }

    pub(crate) fn at(server: &'a AuthorizationServer, place: &str, initial: &'a str) -> Self {
        Self {
            server,
            place: place.to_owned(),
            initial,
            count: 1,
            forced: false,
            serve: None,
            lock_wait: Duration::from_secs(10),
            lease: Duration::from_secs(5),
            fail_point: None,
        }
    }

    pub(crate) fn start(&self) -> Process {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["processes::child", "--exact", "--ignored", "--nocapture"])
            .env("TEST_ENDPOINT", self.server.token_endpoint())
            .env("TEST_FOLDER", &self.place)
            .env("TEST_LEASE_MS", self.lease.as_millis().to_string())
            .env("TEST_INITIAL", self.initial)
            .env("TEST_COUNT", self.count.to_string())
            .env("TEST_LOCK_WAIT_MS", self.lock_wait.as_millis().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if self.forced {
            command.env("TEST_FORCED", "1");
        }
        if let Some((time, api, meeting)) = self.serve {
            command.env("TEST_MEETING", meeting.path());
            command.env("TEST_SERVE_SECONDS", time.as_secs().to_string());
            command.env("TEST_API", api.url());
        }
        if let Some(fail_point) = &self.fail_point {
            command.env("TOWER_OAUTH_FAIL_POINT", fail_point);
        }
        Process(Some(command.spawn().unwrap()))
    }
}

/// A process that is killed when it is not needed any more.
pub(crate) struct Process(Option<Child>);

impl Process {
    /// Waits for its end, and gives what it said.
    fn said(mut self) -> Vec<String> {
        let Output { stdout, stderr, .. } = self.0.take().unwrap().wait_with_output().unwrap();
        let text = String::from_utf8(stdout).unwrap();
        assert!(text.contains("done"), "{text}\n{}", String::from_utf8_lossy(&stderr));
        let said =
            |line: &&str| ["got ", "failed ", "missed "].iter().any(|word| line.starts_with(word));
        text.lines().filter(said).map(str::to_owned).collect()
    }

    pub(crate) async fn stop(&self) {
        signal::stop(self.id()).await;
    }

    pub(crate) fn go_on(&self) {
        signal::go_on(self.id());
    }

    fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    pub(crate) fn kill(mut self) {
        let mut child = self.0.take().unwrap();
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How often each thing is tried.
pub(crate) fn rounds(default: usize) -> usize {
    env::var("TOWER_OAUTH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(default)
}

pub(crate) async fn server(grace: Duration) -> AuthorizationServer {
    let server = AuthorizationServer::start().await.unwrap();
    server.rotation(Rotation::Always { grace });
    server
}

/// Waits, without blocking the server that runs on this runtime.
pub(crate) async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let started = Instant::now();
    while !reached() {
        assert!(started.elapsed() < Duration::from_secs(30), "{what} was not reached");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What a process said, without blocking the server.
pub(crate) async fn said(process: Process) -> Vec<String> {
    tokio::task::spawn_blocking(move || process.said()).await.unwrap()
}

pub(crate) fn token(said: &[String]) -> Option<&str> {
    said.last()?.strip_prefix("got ")
}

pub(crate) fn sent(server: &AuthorizationServer) -> Vec<String> {
    let requests = server.token_requests();
    requests.iter().map(|request| request.param("refresh_token").unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f35_rfr_04_eight_processes_share_one_file_and_reuse_nothing() {
    let (server, folder) = (server(Duration::ZERO).await, Temporary::new());
    let initial = server.issue_refresh_token("cli");
    // A renewal each, of all rounds.
    let each = rounds(200).div_ceil(8);
    let job = Job { count: each, forced: true, ..Job::new(&server, &folder, &initial) };
    let processes: Vec<_> = (0..8).map(|_| job.start()).collect();
    for process in processes {
        let said = said(process).await;
        assert_eq!(said.len(), each);
        assert!(said.iter().all(|line| line.starts_with("got ")), "{said:?}");
    }
    assert!(!server.reuse_detected());
    let sent = sent(&server);
    assert_eq!(sent.len(), each * 8);
    let mut different = sent.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), sent.len(), "a refresh token was sent twice");
    assert_tidy(&folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f35_processes_that_start_together_make_one_token_request() {
    let (server, folder) = (server(Duration::ZERO).await, Temporary::new());
    let initial = server.issue_refresh_token("cli");
    server.script(Reply::honest().delay(Duration::from_millis(500)));
    let processes: Vec<_> = (0..8).map(|_| Job::new(&server, &folder, &initial).start()).collect();
    let mut tokens = Vec::new();
    for process in processes {
        tokens.extend(said(process).await);
    }
    tokens.dedup();
    assert_eq!(tokens.len(), 1, "{tokens:?}");
    assert_eq!(server.token_request_count(), 1);
}

/// Each place where a process is killed, how often it is reached before, and whether a server
/// without grace has rotated by then and what it gave is not on disk.
const PLACES: [(&str, u32, bool); 7] = [
    ("sending", 1, false),
    ("answered", 1, true),
    // The intent is written first, and then the tokens.
    ("temporary-written", 1, false),
    ("temporary-written", 2, true),
    ("previous-kept", 2, true),
    ("renamed", 2, false),
    ("stored", 1, false),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f32_a_process_that_is_killed_anywhere_loses_nothing_within_the_grace() {
    for (place, count, _) in PLACES {
        let (server, folder) = (server(Duration::from_secs(60)).await, Temporary::new());
        let initial = server.issue_refresh_token("cli");
        for round in 0..rounds(2) {
            killed_at(place, count, &server, &folder, &initial).await;
            let next = Job { forced: true, ..Job::new(&server, &folder, &initial) }.start();
            let said = said(next).await;
            let token = token(&said).unwrap_or_else(|| panic!("{place}, round {round}: {said:?}"));
            assert!(server.is_active(token), "{place}, round {round}");
            assert!(!server.reuse_detected(), "{place}, round {round}");
        }
        assert_tidy(&folder);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f32_a_server_without_grace_ends_what_no_client_could_keep_and_nothing_else() {
    for (place, count, is_lost) in PLACES {
        for round in 0..rounds(1) {
            let (server, folder) = (server(Duration::ZERO).await, Temporary::new());
            let initial = server.issue_refresh_token("cli");
            killed_at(place, count, &server, &folder, &initial).await;
            let before = server.token_request_count();
            let job = Job { count: 3, ..Job::new(&server, &folder, &initial) };
            let said = said(job.start()).await;
            assert_eq!(token(&said).is_none(), is_lost, "{place}, round {round}: {said:?}");
            let requests = server.token_request_count() - before;
            // One, and then it is known. Not a loop.
            assert!(requests <= if is_lost { 1 } else { 3 }, "{place}: {requests} requests");
            if is_lost {
                assert!(said[0].starts_with("failed invalid_grant"), "{said:?}");
                assert!(said[2].contains("give access again"), "{said:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f31_f32_a_process_that_is_killed_while_the_answer_is_on_its_way_is_gone_on_with() {
    let (server, folder) = (server(Duration::from_secs(60)).await, Temporary::new());
    let initial = server.issue_refresh_token("cli");
    for _ in 0..rounds(2) {
        let issued = server.issued();
        server.script(Reply::honest().delay(Duration::from_secs(20)));
        let process = Job { forced: true, ..Job::new(&server, &folder, &initial) }.start();
        until("the request", || server.issued() > issued).await;
        process.kill();
        let next = said(Job::new(&server, &folder, &initial).start()).await;
        assert!(server.is_active(token(&next).unwrap()), "{next:?}");
        let sent = sent(&server);
        assert_eq!(sent[sent.len() - 2], sent[sent.len() - 1]);
        assert!(!server.reuse_detected());
    }
    assert_tidy(&folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f36_a_stopped_holder_of_the_lock_is_waited_for_and_a_killed_one_is_not() {
    for _ in 0..rounds(1) {
        let (server, folder) = (server(Duration::ZERO).await, Temporary::new());
        let initial = server.issue_refresh_token("cli");
        server.script(Reply::honest().delay(Duration::from_millis(500)));
        let holder = Job { forced: true, ..Job::new(&server, &folder, &initial) }.start();
        until("the request", || server.issued() > 0).await;
        holder.stop().await;
        let lock_wait = Duration::from_millis(500);
        let impatient = Job { lock_wait, ..Job::new(&server, &folder, &initial) };
        let started = Instant::now();
        let refused = said(impatient.start()).await;
        assert!(refused[0].starts_with("failed timeout"), "{refused:?}");
        assert!(started.elapsed() < Duration::from_secs(10));
        assert_eq!(server.token_request_count(), 1, "the lock was broken");

        holder.go_on();
        let first = said(holder).await;
        let next = said(impatient.start()).await;
        assert_eq!(token(&next), token(&first));

        // And one that is killed, while another one waits for it.
        let marker = folder.path().join("marker");
        let fail_point = Some(format!("sending:1:{}", marker.display()));
        let held = Job { fail_point, forced: true, ..Job::new(&server, &folder, &initial) };
        let holder = held.start();
        until("sending", || marker.exists()).await;
        let waiting = Job { forced: true, ..Job::new(&server, &folder, &initial) }.start();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let killed = Instant::now();
        holder.kill();
        let got = said(waiting).await;
        assert!(server.is_active(token(&got).unwrap()), "{got:?}");
        assert!(killed.elapsed() < Duration::from_secs(5), "the lock was not given back");
        assert!(!server.reuse_detected());
    }
}

/// Runs a process up to this place, and kills it there.
async fn killed_at(
    place: &str,
    count: u32,
    server: &AuthorizationServer,
    folder: &Temporary,
    initial: &str,
) {
    let marker = folder.path().join("marker");
    let _ = fs::remove_file(&marker);
    let fail_point = Some(format!("{place}:{count}:{}", marker.display()));
    let process = Job { forced: true, fail_point, ..Job::new(server, folder, initial) }.start();
    until(place, || marker.exists()).await;
    process.kill();
}

/// However much was killed: a handful of files, and nobody else can read them.
fn assert_tidy(folder: &Temporary) {
    let files: Vec<PathBuf> = folder.files("");
    assert!(files.len() <= 4, "{files:?}");
    for file in files {
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600,
            "{}",
            file.display()
        );
    }
}
