//! The servers in `tests/servers`, started for one test and gone with it.

use std::{
    collections::BTreeMap,
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

/// `oidc-provider` as authorization server, and an API that takes its tokens. Each is a process of
/// its own; both end when this is dropped.
pub struct OidcServer {
    authorization_server: Process,
    api: Process,
    state: StateDir,
    access_token_lifetime: Duration,
    http: reqwest::Client,
}

/// One request that reached the token endpoint, as it was answered.
#[derive(Debug)]
pub struct TokenRequest {
    /// When, since the Unix epoch.
    pub at: Duration,
    pub client: String,
    pub grant: String,
    pub status: u64,
}

impl OidcServer {
    /// Starts both servers on free ports. Access tokens live for the given number of seconds.
    pub async fn start(access_token_lifetime: Duration) -> Self {
        Self::start_with(access_token_lifetime, &[]).await
    }

    /// As [`start`](Self::start), and it knows clients that sign assertions.
    pub async fn start_with_signing_clients(access_token_lifetime: Duration) -> Self {
        Self::start_with(access_token_lifetime, &["--signing-clients"]).await
    }

    async fn start_with(access_token_lifetime: Duration, more: &[&str]) -> Self {
        check_node();
        let state = StateDir::new();
        let authorization_server =
            start_authorization_server(&state, access_token_lifetime, 0, more).await;
        let api = Process::start("api.mjs", ["--issuer", &authorization_server.url]).await;
        let http = reqwest::Client::builder().no_proxy().build().expect("a plain client builds");
        Self { authorization_server, api, state, access_token_lifetime, http }
    }

    /// The issuer, without a slash at the end.
    pub fn issuer(&self) -> &str {
        &self.authorization_server.url
    }

    pub fn token_endpoint(&self) -> String {
        format!("{}/token", self.issuer())
    }

    /// The private key of the client that signs with this algorithm, in `pem` or as a `jwk`.
    pub fn client_key(&self, algorithm: &str, format: &str) -> PathBuf {
        self.state.0.join(format!("client-{algorithm}.{format}"))
    }

    /// The API's origin, without a slash at the end.
    pub fn api(&self) -> &str {
        &self.api.url
    }

    /// Every token request since the authorization server started.
    pub async fn token_requests(&self) -> Vec<TokenRequest> {
        let stats = self.ask(reqwest::Method::GET, self.issuer(), "stats", &[]).await;
        let text = |value: &Value| value.as_str().unwrap_or("none").to_owned();
        stats["token_requests"]
            .as_array()
            .expect("the statistics list the token requests")
            .iter()
            .map(|request| TokenRequest {
                at: Duration::from_millis(request["at_ms"].as_u64().expect("a time")),
                client: text(&request["client"]),
                grant: text(&request["grant"]),
                status: request["status"].as_u64().expect("a status"),
            })
            .collect()
    }

    /// How many answers of each status the API has given.
    pub async fn api_answers(&self) -> BTreeMap<String, u64> {
        let stats = self.ask(reqwest::Method::GET, self.api(), "stats", &[]).await;
        let answers = stats["answers"].as_object().expect("the statistics count the answers");
        answers.iter().map(|(status, n)| (status.clone(), n.as_u64().expect("a count"))).collect()
    }

    /// Makes the API refuse a token from now on, as if it were revoked.
    pub async fn refuse_at_api(&self, token: &str) {
        self.ask(reqwest::Method::POST, self.api(), "refuse", &[("token", token)]).await;
    }

    /// A refresh token, as a user's sign-in at the client would give.
    pub async fn sign_in(&self, client: &str) -> String {
        let answer =
            self.ask(reqwest::Method::POST, self.issuer(), "sign-in", &[("client", client)]).await;
        answer["refresh_token"].as_str().expect("a refresh token").to_owned()
    }

    /// Kills the authorization server, as `kill -9` does. The API goes on.
    pub async fn kill(&mut self) {
        self.authorization_server.kill().await;
    }

    /// Starts the authorization server that was killed, at the same place and with the same key.
    pub async fn restart_on_same_port(&mut self) {
        let port = self.authorization_server.port();
        self.authorization_server.release_port();
        self.authorization_server =
            start_authorization_server(&self.state, self.access_token_lifetime, port, &[]).await;
    }

    async fn ask(
        &self,
        method: reqwest::Method,
        server: &str,
        control: &str,
        query: &[(&str, &str)],
    ) -> Value {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let url = format!("{server}/__test/{control}?{query}");
        let answer = async {
            let response = self.http.request(method, &url).send().await?.error_for_status()?;
            response.bytes().await
        };
        let body = answer.await.expect("the test server answers its controls");
        serde_json::from_slice(&body).expect("the test server's controls answer in JSON")
    }
}

async fn start_authorization_server(
    state: &StateDir,
    access_token_lifetime: Duration,
    port: u16,
    more: &[&str],
) -> Process {
    let lifetime = access_token_lifetime.as_secs().to_string();
    let port = port.to_string();
    let arguments: [&OsStr; 6] = [
        "--state".as_ref(),
        state.0.as_ref(),
        "--access-token-ttl".as_ref(),
        lifetime.as_ref(),
        "--port".as_ref(),
        port.as_ref(),
    ];
    let more = more.iter().map(<&str>::as_ref);
    Process::start("oidc.mjs", arguments.into_iter().chain(more)).await
}

/// A script of `tests/servers` that runs. It ends when this is dropped, and when the test process
/// ends in whatever way: its stdin closes then.
struct Process {
    child: Child,
    url: String,
    /// Holds the port while the process is dead: connections to it are refused, and nobody else is
    /// given it.
    reserved: Option<TcpSocket>,
}

impl Process {
    /// Starts a script and waits until it listens.
    async fn start(script: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let mut child = Command::new("node")
            .arg(servers().join(script))
            .args(arguments)
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
        Self { child, url, reserved: None }
    }

    fn port(&self) -> u16 {
        let (_, port) = self.url.rsplit_once(':').expect("the URL has a port");
        port.parse().expect("the port is a number")
    }

    async fn kill(&mut self) {
        self.child.kill().await.expect("the process can be killed");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("SO_REUSEADDR can be set");
        socket.bind(([127, 0, 0, 1], self.port()).into()).expect("the port is free again");
        self.reserved = Some(socket);
    }

    fn release_port(&mut self) {
        self.reserved = None;
    }
}

/// A directory for one server's keys, removed on drop.
struct StateDir(PathBuf);

impl StateDir {
    fn new() -> Self {
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
fn check_node() {
    let version = StdCommand::new("node").arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let major = version.ok().and_then(|version| {
        version.trim().strip_prefix('v')?.split('.').next()?.parse::<u32>().ok()
    });
    assert!(
        major.is_some_and(|major| major >= 20)
            && servers().join("node_modules/oidc-provider").exists(),
        "the servers of this test are not installed: run ./tests/run, which installs them; \
         Node 20 or newer is needed"
    );
}

fn servers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers")
}

/// Node starts in a tenth of a second; a busy machine may take a hundred times as long.
const START_TIMEOUT: Duration = Duration::from_secs(20);
