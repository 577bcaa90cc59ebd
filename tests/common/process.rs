//! A script of `tests/servers` as a process.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command as StdCommand, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpSocket,
    process::{Child, Command},
    time::timeout,
};

/// A script of `tests/servers` that runs. It ends when this is dropped, and when the test process
/// ends in whatever way: its stdin closes then.
pub struct Process {
    child: Child,
    pub url: String,
    /// Where the authorization server asks for client certificates.
    pub alias: Option<String>,
    /// Holds the port while the process is dead: connections to it are refused, and nobody else is
    /// given it.
    reserved: Option<TcpSocket>,
}

impl Process {
    /// Starts a script and waits until it listens. It trusts servers that `root` has signed, if
    /// there is one.
    pub async fn start(
        script: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        root: Option<&Path>,
    ) -> Self {
        let mut child = Command::new("node")
            .arg(servers().join(script))
            .args(arguments)
            .envs(root.map(|root| ("NODE_EXTRA_CA_CERTS", root)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node can be started");
        let stdout = child.stdout.take().expect("stdout is piped");
        let first_line = timeout(START_TIMEOUT, BufReader::new(stdout).lines().next_line()).await;
        let line = first_line
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .ok()
            .flatten()
            .unwrap_or_default();
        let ready: Value = serde_json::from_str(&line).unwrap_or_default();
        let url = ready["url"].as_str().unwrap_or_default().to_owned();
        assert!(
            !url.is_empty(),
            "tests/servers/{script} did not come up within {START_TIMEOUT:?}; \
             what it has to say is on stderr, above. It printed {line:?}"
        );
        let alias = ready["alias"].as_str().map(str::to_owned);
        Self { child, url, alias, reserved: None }
    }

    pub fn port(&self) -> u16 {
        let (_, port) = self.url.rsplit_once(':').expect("the URL has a port");
        port.parse().expect("the port is a number")
    }

    pub async fn kill(&mut self) {
        self.child.kill().await.expect("the process can be killed");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("SO_REUSEADDR can be set");
        socket.bind(([127, 0, 0, 1], self.port()).into()).expect("the port is free again");
        self.reserved = Some(socket);
    }

    pub fn release_port(&mut self) {
        self.reserved = None;
    }
}

/// A directory for one server's keys, removed on drop.
pub struct StateDir(pub PathBuf);

impl StateDir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("oidc-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A test that cannot run has failed: a skipped one would look like a passed one.
pub fn check_node() {
    let version = StdCommand::new("node").arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let major = version.ok().and_then(|version| {
        version.trim().strip_prefix('v')?.split('.').next()?.parse::<u32>().ok()
    });
    assert!(
        major.is_some_and(|major| major >= 20)
            && ["oidc-provider", "express-oauth2-jwt-bearer"]
                .iter()
                .all(|package| servers().join("node_modules").join(package).exists()),
        "the servers of this test are not installed: run ./tests/run, which installs them; \
         Node 20 or newer is needed"
    );
}

fn servers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers")
}

/// Node starts in a tenth of a second; a busy machine may take a hundred times as long.
const START_TIMEOUT: Duration = Duration::from_secs(20);
