//! A Redis server of this machine's, for one test.

use std::{
    fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::Instant;

use crate::temporary::Temporary;

/// A server on a free port of 127.0.0.1, which ends with this.
pub(crate) struct RedisServer {
    folder: Temporary,
    port: u16,
    process: Option<Child>,
    tls: bool,
    replica_of: Option<u16>,
}

impl RedisServer {
    /// Starts one that keeps nothing.
    pub(crate) fn start() -> Self {
        Self::new(false, None)
    }

    /// Starts one that copies another one.
    pub(crate) fn replica(of: &Self) -> Self {
        Self::new(false, Some(of.port))
    }

    /// Starts one that takes TLS only, with a certificate of its own.
    pub(crate) fn with_tls() -> Self {
        Self::new(true, None)
    }

    fn new(tls: bool, replica_of: Option<u16>) -> Self {
        let mut server = Self { folder: Temporary::new(), port: 0, process: None, tls, replica_of };
        if tls {
            let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
            let made = rcgen::generate_simple_self_signed(names).unwrap();
            fs::write(server.path("cert.pem"), made.cert.pem()).unwrap();
            fs::write(server.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
        }
        // Somebody else may take the port before the server does.
        loop {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            server.port = listener.local_addr().unwrap().port();
            drop(listener);
            if server.started() {
                return server;
            }
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    pub(crate) fn certificate(&self) -> Vec<u8> {
        fs::read(self.path("cert.pem")).unwrap()
    }

    /// Kills it, as `kill -9` does.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts it again, on the same port and without what it had.
    pub(crate) fn resume(&mut self) {
        assert!(self.started(), "the port {} is taken", self.port);
    }

    /// Starts it, and waits until it answers; `false` if it has ended instead.
    fn started(&mut self) -> bool {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]);
        command.arg(self.folder.path());
        if self.tls {
            command.args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"]);
            for (option, file) in [
                ("--tls-cert-file", "cert.pem"),
                ("--tls-key-file", "key.pem"),
                ("--tls-ca-cert-file", "cert.pem"),
            ] {
                command.arg(option).arg(self.path(file));
            }
        } else {
            command.args(["--port", &port]);
        }
        if let Some(master) = self.replica_of {
            command.args(["--replicaof", "127.0.0.1", &master.to_string()]);
        }
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process =
            command.spawn().expect("redis-server is needed: apt-get install redis-server");
        // Not another one, on the same port.
        let is_ours = format!("process_id:{}", process.id());
        let start = Instant::now();
        while !self.cli(&["INFO", "server"]).lines().any(|line| line.trim() == is_ours) {
            if process.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.process = Some(process);
        true
    }

    /// Runs a command, and gives the answer as `redis-cli` shows it.
    pub(crate) fn cli(&self, command: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        if self.tls {
            cli.arg("--tls").arg("--cacert").arg(self.path("cert.pem"));
        }
        let output = cli.args(command).output().expect("redis-cli is there");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.folder.path().join(file)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}
