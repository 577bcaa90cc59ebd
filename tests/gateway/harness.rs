//! A gateway that runs, and what is behind it.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};
use tower_oauth::testing::AuthorizationServer;

pub(crate) struct Gateway {
    pub(crate) url: String,
    pub(crate) child: Child,
    _stdout: Lines<BufReader<ChildStdout>>,
    directory: Directory,
}

impl Gateway {
    /// Starts it before these APIs, all of which take tokens of this server.
    pub(crate) async fn start(issuer: &AuthorizationServer, apis: &[(&str, &str)]) -> Self {
        let mut text = "listen = '127.0.0.1:0'\n".to_owned();
        let directory = Directory::new();
        for (name, url) in apis {
            text += &upstream(name, url, &issuer.token_endpoint(), &directory.secret());
        }
        Self::configured(&text, directory).await
    }

    pub(crate) async fn configured(text: &str, directory: Directory) -> Self {
        let mut child = command(&directory.write("gateway.toml", text)).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(Duration::from_secs(20), stdout.next_line()).await.unwrap().unwrap();
        let line = line.expect("the gateway says where it listens; stderr has why not, above");
        let url = line.strip_prefix("listening on ").expect("it listens first").to_owned();
        Self { url, child, _stdout: stdout, directory }
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Rewrites the secret that the configuration names.
    pub(crate) fn set_secret(&self, secret: &str) {
        self.directory.write("secret", secret);
    }

    /// The most memory that it has had, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id().unwrap());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kibibytes * 1024
    }

    /// Asks it to end, as a service manager does.
    pub(crate) fn terminate(&self) {
        let id = self.child.id().unwrap().to_string();
        let status = std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(status.success());
    }
}

/// Runs it with a configuration that it does not take.
pub(crate) async fn refused(text: &str) -> Output {
    let directory = Directory::new();
    directory.secret();
    let text = text.replace("DIRECTORY", &directory.0.to_string_lossy());
    let mut command = command(&directory.write("gateway.toml", &text));
    let output = command.stderr(Stdio::piped()).output();
    timeout(Duration::from_secs(20), output).await.expect("it ends").unwrap()
}

pub(crate) fn upstream(name: &str, url: &str, token_endpoint: &str, secret: &Path) -> String {
    format!(
        "[upstreams.{name}]\nurl = '{url}'\n[upstreams.{name}.oauth]\n\
         token_endpoint = '{token_endpoint}'\n\
         client = {{ id = 'gateway', secret = {{ file = '{}' }} }}\n",
        secret.display()
    )
}

/// A directory that is removed on drop.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("gateway-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn secret(&self) -> PathBuf {
        self.write("secret", "s3cr3t")
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn command(configuration: &Path) -> Command {
    let tests = std::env::current_exe().unwrap();
    let built = tests.parent().unwrap().parent().unwrap().join("examples/gateway");
    assert!(built.exists(), "run `cargo build --all-features --example gateway` first");
    let mut command = Command::new(built);
    command.arg(configuration).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}
