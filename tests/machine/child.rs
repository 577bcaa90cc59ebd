//! The process under test: it holds tokens in every way there is, and does what it is told.

use std::{
    env, error,
    fs::{self, File},
    io::{self, Write},
    iter::successors,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinSet,
};
use tower_oauth::{
    ClientAuth, ClientCredentials, Error, TokenHandle, TokenPool,
    refresh::Token,
    store::{FileStore, KeyRing, Persisted},
};
use tracing::Level;
use tracing_subscriber::{
    filter, fmt, fmt::format::FmtSpan, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is run by other tests, in processes of their own"]
async fn child() {
    let Ok(control) = env::var("TEST_CONTROL") else { return };
    let control: SocketAddr = control.parse().unwrap();
    let (lines, mut answers) = TcpStream::connect(control).await.unwrap().into_split();
    look_on();
    let mut lines = BufReader::new(lines).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "begin");
    let child = Child::new();
    answers.write_all(b"ok\n").await.unwrap();
    while let Some(line) = lines.next_line().await.unwrap() {
        let answer = child.obey(&line).await;
        answers.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
    }
}

/// Whether the disk of the log is full.
static FULL: AtomicBool = AtomicBool::new(false);

/// Sets up the log and the metrics.
fn look_on() {
    let log = fmt().with_writer(|| Disk);
    match env::var("TEST_LOG").as_deref() {
        // Of this crate all, with a line when a span begins, is entered, is left and ends.
        Ok("spans") => {
            let ours = filter::Targets::new().with_target("tower_oauth", Level::TRACE);
            let log = log.with_max_level(Level::TRACE).with_span_events(FmtSpan::FULL);
            log.finish().with(ours).init();
        }
        Ok(level) => log.with_max_level(level.parse::<Level>().unwrap()).init(),
        Err(_) => {}
    }
    if env::var_os("TEST_RECORDER").is_some() {
        metrics::set_global_recorder(Panics).unwrap();
    }
}

struct Disk;

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if FULL.load(Ordering::Relaxed) {
            return File::options().write(true).open("/dev/full")?.write(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Panics;

impl Recorder for Panics {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        panic!("described");
    }

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        panic!("described");
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        panic!("described");
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        panic!("counted");
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        panic!("measured");
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        panic!("measured");
    }
}

struct Child {
    handle: TokenHandle,
    pool: TokenPool<u32>,
    stored: Option<TokenHandle>,
}

impl Child {
    fn new() -> Self {
        let wait = Duration::from_millis(setting("TEST_WAIT_MS", 30_000));
        let handle = TokenHandle::builder(source()).wait(wait).spawn();
        let pool = TokenPool::builder(|_: &u32| source()).wait(wait).spawn();
        let stored = env::var("TEST_STORE").ok().map(|folder| {
            let keys = KeyRing::new("test", "5".repeat(64)).unwrap();
            let source = Persisted::new(source(), FileStore::new(folder, keys));
            TokenHandle::builder(source).name("stored").wait(wait).spawn()
        });
        Self { handle, pool, stored }
    }

    async fn obey(&self, line: &str) -> String {
        let (command, argument) = line.split_once(' ').unwrap_or((line, "0"));
        match command {
            "handle" => said(self.handle.token().await),
            "stored" => said(self.stored.as_ref().unwrap().token().await),
            "state" => format!("{:?}", self.handle.status().state()),
            "tenants" => self.tenants(argument.parse().unwrap()).await,
            "descriptors" => fs::read_dir("/proc/self/fd").unwrap().count().to_string(),
            "kilobytes" => kilobytes(),
            "disk" => {
                FULL.store(argument == "full", Ordering::Relaxed);
                "ok".to_owned()
            }
            other => panic!("{other:?} is no command"),
        }
    }

    /// How many of so many tenants have a token.
    async fn tenants(&self, count: u32) -> String {
        let mut asked = JoinSet::new();
        for tenant in 0..count {
            let pool = self.pool.clone();
            asked.spawn(async move { pool.token(&tenant).await.is_ok() });
        }
        asked.join_all().await.into_iter().filter(|served| *served).count().to_string()
    }
}

/// Each has a grant of its own, and so the transport that is made for it.
fn source() -> ClientCredentials {
    let auth = ClientAuth::basic("child", "s3cr3t");
    let timeout = Duration::from_millis(setting("TEST_TIMEOUT_MS", 15_000));
    let builder = ClientCredentials::builder(env::var("TEST_ENDPOINT").unwrap(), auth);
    builder.timeout(timeout).build().unwrap()
}

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().unwrap())
}

fn said(outcome: Result<Token, Error>) -> String {
    match outcome {
        Ok(_) => "ok".to_owned(),
        Err(error) => {
            let causes = successors(Some(&error as &dyn error::Error), |error| error.source());
            let causes: Vec<_> = causes.map(ToString::to_string).collect();
            causes.join(": ").replace('\n', " ")
        }
    }
}

/// What the process has in memory.
fn kilobytes() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").to_owned()
}
