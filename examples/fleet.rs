//! A fleet, to watch: eight processes share one session in Redis, and one of them is killed in the
//! middle of a renewal.
//!
//! ```sh
//! cargo run --example fleet --features store-redis
//! ```
//!
//! It needs `redis-server`, and takes about half a minute. The authorization server rotates refresh
//! tokens: one that is used twice, after a grace of ten seconds, would end the session for all.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::{
    env,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use tokio::time::sleep;
use tower_oauth::{
    BoxError, ClientAuth, Error, FetchContext, RefreshToken, TokenHandle, TokenSet, TokenSource,
    source::{Identified, Identity},
    store::{KeyRing, Persisted, RedisStore},
    testing::{AuthorizationServer, Reply, Rotation},
};

const WORKERS: usize = 8;
const LIFETIME: Duration = Duration::from_secs(10);
const LIFETIMES: u32 = 3;

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    match env::var("FLEET_WORKER") {
        Ok(endpoint) => work(&endpoint).await.map(|()| ExitCode::SUCCESS),
        Err(_) => watch().await,
    }
}

/// In tenths of a second.
const KILL_AFTER: u32 = 80;
const LEASE: Duration = Duration::from_secs(3);

/// A worker: any service of yours. It serves until it is killed.
async fn work(endpoint: &str) -> Result<(), BoxError> {
    let grant = RefreshToken::builder(endpoint, ClientAuth::none("fleet"), env::var("INITIAL")?);
    let keys = KeyRing::new("example", "42".repeat(32))?; // in real life, SecretSource::env("…")
    let store = RedisStore::builder(env::var("REDIS")?, keys).lease(LEASE).build()?;
    let source = Persisted::new(Announced(grant.build()?), store);
    // Early enough that a lease can end in between, which lasts ten times as long in real life, and
    // tokens a thousand times.
    let tokens = TokenHandle::builder(source).margin(0.4..0.5)?.spawn();
    tokens.ready().await?;
    println!("ready");
    loop {
        // A request would look like this: it finds a token, or it has to wait for one.
        if tokens.current().is_none() {
            println!("missed");
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Says when a token request is made.
struct Announced(RefreshToken);

impl TokenSource for Announced {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        println!("renews");
        self.0.fetch(cx).await
    }
}

impl Identified for Announced {
    fn identity(&self) -> Identity {
        self.0.identity()
    }
}

/// Starts everything, and watches.
async fn watch() -> Result<ExitCode, BoxError> {
    let server = AuthorizationServer::start().await?;
    server.rotation(Rotation::Always { grace: Duration::from_secs(10) }).lifetime(LIFETIME);
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let redis = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .stdout(Stdio::null())
        .spawn()?;
    let _redis = Killed(redis);

    let (say, said) = mpsc::channel();
    let initial = server.issue_refresh_token("fleet");
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        let mut worker = Command::new(env::current_exe()?)
            .env("FLEET_WORKER", server.token_endpoint())
            .env("REDIS", format!("redis://127.0.0.1:{port}"))
            .env("INITIAL", &initial)
            .stdout(Stdio::piped())
            .spawn()?;
        if let Some(lines) = worker.stdout.take() {
            let say = say.clone();
            thread::spawn(move || {
                let lines = BufReader::new(lines).lines();
                lines.map_while(Result::ok).try_for_each(|line| say.send((number, line)))
            });
        }
        workers.push(Some(Killed(worker)));
    }

    let (mut renewals, mut missed, mut killed) = (0, 0, false);
    for step in 0..LIFETIMES * 100 {
        sleep(LIFETIME / 100).await;
        if step == KILL_AFTER {
            println!("The next renewal takes a second, and whoever makes it will be killed.");
            server.script(Reply::honest().delay(Duration::from_secs(1)));
        }
        while let Ok((number, line)) = said.try_recv() {
            println!("worker {number}: {line}");
            renewals += u32::from(line == "renews");
            missed += u32::from(line == "missed");
            if line == "renews" && step >= KILL_AFTER && !killed {
                killed = true;
                sleep(Duration::from_millis(200)).await; // the server has rotated by now
                if let Some(worker) = workers.get_mut(number) {
                    *worker = None;
                }
                println!("worker {number} is killed. Its lease ends in three seconds.");
            }
        }
    }
    println!("{WORKERS} processes made {renewals} token requests in {LIFETIMES} lifetimes.");
    println!(
        "Requests that found no token: {missed}. The session was lost: {}.",
        server.reuse_detected()
    );
    // They are renewed after half of their life, and one request was lost with its process.
    let well = (4..=9).contains(&renewals) && killed && missed == 0 && !server.reuse_detected();
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A process that is killed when it is not needed any more.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
