//! The authorization server and the API of `tests/servers`, started for one test and gone with it.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use super::{
    certificates::{Authority, Pair},
    process::{Process, StateDir, check_node},
};

/// `oidc-provider` as authorization server, and an API that takes its tokens. Each is a process of
/// its own; both end when this is dropped.
pub struct OidcServer {
    authorization_server: Process,
    api: Process,
    options: Options,
    http: reqwest::Client,
}

/// How the servers are started.
struct Options {
    state: StateDir,
    access_token_lifetime: Duration,
    /// Switches of `oidc.mjs`.
    switches: Vec<&'static str>,
    /// The API's script and its switches.
    api: &'static str,
    api_switches: Vec<&'static str>,
    certificates: Option<Certificates>,
}

/// What servers and clients present when they talk over TLS.
pub struct Certificates {
    root_pem: String,
    /// Signed by the authority that the servers trust, for `CN=orders` and `orders.example`.
    pub orders: Pair,
    /// Signed by that authority too, for somebody whom no client is registered as.
    pub stranger: Pair,
    /// Signed by itself, and registered.
    pub self_signed: Pair,
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
        Self::start_with(Options::new(access_token_lifetime)).await
    }

    /// As [`start`](Self::start), and it knows a client for each algorithm of assertions, not only
    /// for ES256.
    pub async fn start_with_signing_clients(access_token_lifetime: Duration) -> Self {
        let mut options = Options::new(access_token_lifetime);
        options.switches.push("--signing-clients");
        Self::start_with(options).await
    }

    /// As [`start`](Self::start), and both servers take no DPoP proof without a nonce of theirs.
    pub async fn start_with_dpop_nonces(access_token_lifetime: Duration) -> Self {
        let mut options = Options::new(access_token_lifetime);
        options.switches.push("--dpop-nonces");
        options.api_switches.push("--dpop-nonces");
        Self::start_with(options).await
    }

    /// Over TLS: the API asks for client certificates, and so does the authorization server on the
    /// port of its aliases. It knows clients that have them.
    pub async fn start_with_mutual_tls(access_token_lifetime: Duration) -> Self {
        let mut options = Options::new(access_token_lifetime);
        options.certificates = Some(Certificates::write(&options.state.0));
        Self::start_with(options).await
    }

    /// Instead of our own API, one whose checks are not ours: `express-oauth2-jwt-bearer`.
    pub async fn with_foreign_api(mut self) -> Self {
        self.options.api = "express.mjs";
        self.api = self.options.start_api(&self.authorization_server.url).await;
        self
    }

    async fn start_with(options: Options) -> Self {
        check_node();
        let authorization_server = options.start_authorization_server(0).await;
        let api = options.start_api(&authorization_server.url).await;
        let http = options.trust(reqwest::Client::builder()).build().expect("a client builds");
        Self { authorization_server, api, options, http }
    }

    /// What is presented over TLS, by servers started [with it](Self::start_with_mutual_tls).
    pub fn certificates(&self) -> &Certificates {
        self.options.certificates.as_ref().expect("the servers talk over TLS")
    }

    /// A client's settings with which it takes these servers for what they say they are.
    pub fn trust(
        &self,
    ) -> impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder + Clone + Send + Sync + 'static + use<>
    {
        self.options.trust_settings()
    }

    /// The token endpoint where clients are asked for a certificate.
    pub fn token_endpoint_alias(&self) -> String {
        let alias = self.authorization_server.alias.as_ref().expect("the servers talk over TLS");
        format!("{alias}/token")
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
        self.options.state.0.join(format!("client-{algorithm}.{format}"))
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

    /// An assertion about somebody, signed by a provider that the authorization server trusts.
    pub async fn assertion(&self, subject: &str) -> String {
        let query = [("subject", subject)];
        let answer = self.ask(reqwest::Method::POST, self.issuer(), "assertion", &query).await;
        answer["assertion"].as_str().expect("an assertion").to_owned()
    }

    /// Gives the API a new DPoP nonce. The one before it stays good, unless it is to `expire`.
    pub async fn rotate_nonce_at_api(&self, expire: bool) {
        let query: &[_] = if expire { &[("expire", "1")] } else { &[] };
        self.ask(reqwest::Method::POST, self.api(), "rotate-nonce", query).await;
    }

    /// Kills the authorization server, as `kill -9` does. The API goes on.
    pub async fn kill(&mut self) {
        self.authorization_server.kill().await;
    }

    /// Starts the authorization server that was killed, at the same place and with the same key.
    pub async fn restart_on_same_port(&mut self) {
        let port = self.authorization_server.port();
        self.authorization_server.release_port();
        self.authorization_server = self.options.start_authorization_server(port).await;
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

impl Options {
    fn new(access_token_lifetime: Duration) -> Self {
        Self {
            state: StateDir::new(),
            access_token_lifetime,
            switches: Vec::new(),
            api: "api.mjs",
            api_switches: Vec::new(),
            certificates: None,
        }
    }

    async fn start_authorization_server(&self, port: u16) -> Process {
        let lifetime = self.access_token_lifetime.as_secs().to_string();
        let port = port.to_string();
        let mut arguments = vec!["--state".as_ref(), self.state.0.as_os_str()];
        arguments.extend(["--access-token-ttl", &lifetime, "--port", &port].map(OsStr::new));
        self.start("oidc.mjs", arguments, &self.switches).await
    }

    async fn start_api(&self, issuer: &str) -> Process {
        let arguments = vec!["--issuer".as_ref(), issuer.as_ref()];
        // The foreign one knows no nonces.
        let own = self.api == "api.mjs";
        let switches = if own { &*self.api_switches } else { &[] };
        self.start(self.api, arguments, switches).await
    }

    async fn start(&self, script: &str, mut arguments: Vec<&OsStr>, switches: &[&str]) -> Process {
        arguments.extend(switches.iter().map(|switch| OsStr::new(*switch)));
        let root = self.certificates.is_some().then(|| self.state.0.join("ca.pem"));
        if root.is_some() {
            arguments.extend(["--tls".as_ref(), self.state.0.as_os_str()]);
        }
        Process::start(script, arguments, root.as_deref()).await
    }

    fn trust(&self, client: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
        self.trust_settings()(client)
    }

    fn trust_settings(
        &self,
    ) -> impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder + Clone + Send + Sync + 'static + use<>
    {
        let root = self.certificates.as_ref().map(|certificates| {
            reqwest::Certificate::from_pem(certificates.root_pem.as_bytes()).expect("a root in PEM")
        });
        // Servers on this machine are not behind a proxy.
        move |client| match root.clone() {
            Some(root) => client.no_proxy().tls_certs_only([root]),
            None => client.no_proxy(),
        }
    }
}

impl Certificates {
    /// Makes them, and writes what the servers need of them.
    fn write(directory: &Path) -> Self {
        let authority = Authority::new();
        let server = authority.server();
        let certificates = Self {
            root_pem: authority.root_pem.clone(),
            orders: authority.client("orders"),
            stranger: authority.client("stranger"),
            self_signed: Pair::self_signed("orders"),
        };
        std::fs::create_dir_all(directory).expect("the target directory can be written to");
        for (name, pem) in [
            ("ca", &authority.root_pem),
            ("server", &server.pem),
            ("server-key", &server.key_pem),
            ("self-signed", &certificates.self_signed.pem),
        ] {
            let path = directory.join(format!("{name}.pem"));
            std::fs::write(path, pem).expect("the target directory can be written to");
        }
        certificates
    }
}
