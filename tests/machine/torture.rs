//! One process through everything, one after the other.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    parent::{Parent, Preparation},
    proxy::Proxy,
    server::{Behaviour, Server},
    signal,
};

/// How long tokens live, in seconds.
const LIFETIME: u64 = 6;
/// How long each trouble lasts: longer than a token lives.
const TROUBLE: Duration = Duration::from_secs(LIFETIME + 2);
/// How long it may take after that until every token is served again.
const BOUND: Duration = Duration::from_secs(10);

const SERVED: [(&str, &str); 3] = [("handle", "ok"), ("tenants 20", "20"), ("stored", "ok")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "two minutes: tests/torture runs it"]
async fn one_process_serves_tokens_after_each_trouble() {
    for clock in ["+0", "-7200"] {
        let server = Server::start(Behaviour { lifetime: LIFETIME, http2: true }).await;
        let proxy = Proxy::start(server.port).await;
        let process = Process::start(&server, &proxy, clock).await;
        if clock == "+0" {
            process.suffer(&server, &proxy).await;
        }
    }
}

struct Process {
    parent: Parent,
    /// While it exists, look-ups of names wait.
    silent: PathBuf,
    /// What the wall clock is ahead by.
    clock: PathBuf,
}

impl Process {
    async fn start(server: &Server, proxy: &Proxy, clock: &str) -> Self {
        let endpoint = format!("https://localhost:{}/token", proxy.port);
        let child = Preparation::new(&endpoint, &server.root);
        let [shim, silent, wall] =
            ["dns.so", "silent", "clock"].map(|name| child.folder().join(name));
        compile(&shim);
        fs::write(&wall, clock).unwrap();
        let preloaded = format!("{}:{}", shim.display(), faketime().display());
        let child = child
            .set("LD_PRELOAD", preloaded)
            .set("TEST_DNS_SILENT", &silent)
            .set("FAKETIME_TIMESTAMP_FILE", &wall)
            .set("FAKETIME_NO_CACHE", "1")
            .set("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .set("TEST_LOG", "spans")
            .set("TEST_TIMEOUT_MS", "3000")
            .set("TEST_WAIT_MS", "1000");
        let parent = child.unprivileged().with_store().start().await;
        let mut process = Self { parent, silent, clock: wall };
        process.recovers("it starts").await;
        process
    }

    async fn suffer(mut self, server: &Server, proxy: &Proxy) {
        self.parent.limit("nofile", "3");
        proxy.freeze();
        sleep(TROUBLE).await;
        self.parent.limit("nofile", "1024");
        self.recovers("no descriptors").await;

        self.parent.limit("nproc", "0");
        proxy.freeze();
        sleep(TROUBLE).await;
        self.parent.limit("nproc", "4096");
        self.recovers("no threads").await;

        assert_eq!(self.parent.ask("disk full").await, "ok");
        self.recovers("a full disk, for the log").await;
        assert_eq!(self.parent.ask("disk ok").await, "ok");

        proxy.freeze();
        self.recovers("a frozen connection").await;

        server.stall();
        self.recovers("a connection that answers pings alone").await;

        fs::write(&self.silent, "").unwrap();
        proxy.freeze();
        sleep(TROUBLE).await;
        fs::remove_file(&self.silent).unwrap();
        self.recovers("name servers that are silent").await;

        signal::stop(self.parent.id()).await;
        sleep(TROUBLE).await;
        signal::go_on(self.parent.id());
        self.recovers("SIGSTOP").await;

        for step in ["+7200", "-7200", "+0"] {
            fs::write(&self.clock, step).unwrap();
            self.recovers("a step of the wall clock").await;
        }
    }

    /// Every token is served within the bound, and from then on for a life of theirs.
    async fn recovers(&mut self, from: &str) {
        let began = Instant::now();
        for (what, answer) in SERVED {
            self.parent.until(what, answer, BOUND).await;
        }
        println!("{from}: {:?}", began.elapsed());
        let began = Instant::now();
        // A trouble that begins just now may show only when the tokens are due.
        while began.elapsed() < TROUBLE {
            for (what, answer) in SERVED {
                self.parent.until(what, answer, BOUND).await;
            }
            sleep(Duration::from_millis(200)).await;
        }
        for (what, answer) in SERVED {
            assert_eq!(self.parent.ask(what).await, answer, "{from}: {what}");
        }
    }
}

fn compile(shim: &Path) {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/machine/silent_dns.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .arg(shim)
        .args([source, "-ldl"])
        .status()
        .expect("`cc`, a C compiler, can be started: run ./tests/run, which installs it");
    assert!(compiled.success());
}

/// The library of `faketime`, for programs with threads.
fn faketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path());
    let mut libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.exists()).expect("faketime is there: run ./tests/torture")
}
