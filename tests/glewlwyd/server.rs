//! The server: started for one test with a database of its own, and gone with it.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use reqwest::{
    Method,
    header::{CONTENT_TYPE, COOKIE, SET_COOKIE},
};
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command as AsyncCommand},
    time::sleep,
};

pub(crate) struct Glewlwyd {
    url: String,
    http: reqwest::Client,
    /// The administrator's session.
    session: String,
    /// The private key of the client `private_key_jwt`, in PEM.
    pub(crate) client_key: String,
    _process: Child,
    _directory: Directory,
}

impl Glewlwyd {
    /// Starts it on a free port, with clients and a user.
    pub(crate) async fn start() -> Self {
        check_installed();
        let directory = Directory::new();
        create_database(&directory.0);
        for _ in 0..START_ATTEMPTS {
            let port = free_port();
            let mut process = spawn(&directory.0, port);
            let url = format!("http://127.0.0.1:{port}");
            let http = reqwest::Client::builder().no_proxy().build().expect("a client builds");
            if !is_ready(&mut process, &http, &url).await {
                continue; // somebody else was given the port
            }
            let client_key = key().serialize_pem();
            let session = String::new();
            let mut server =
                Self { url, http, session, client_key, _process: process, _directory: directory };
            server.configure().await;
            return server;
        }
        panic!("glewlwyd did not come up; what it has to say is in its log, above");
    }

    pub(crate) fn issuer(&self) -> String {
        format!("{}/api/oidc", self.url)
    }

    pub(crate) fn token_endpoint(&self) -> String {
        format!("{}/token", self.issuer())
    }

    /// The server itself, whose user information is an API.
    pub(crate) fn origin(&self) -> &str {
        &self.url
    }

    /// A client of the user information, which follows redirects at the server only.
    pub(crate) fn client(&self) -> reqwest::Client {
        let origins: tower_oauth::Origins =
            self.origin().parse().expect("the server is on loopback");
        let client = reqwest::Client::builder().no_proxy();
        client.redirect(origins.redirect_policy()).build().expect("a client builds")
    }

    /// A refresh token of Alice's. Our users get theirs in a browser; the password grant, which
    /// this crate does not have, is the way without one.
    pub(crate) async fn sign_in(&self) -> String {
        refresh_token(self.ask_for_alice(None).await).await
    }

    /// As [`sign_in`](Self::sign_in), bound to a key. `prove` makes a proof with a nonce.
    #[cfg(feature = "dpop")]
    pub(crate) async fn sign_in_bound(&self, prove: impl Fn(&str) -> String) -> String {
        let refusal = self.ask_for_alice(Some(prove("none"))).await;
        let nonce = refusal.headers().get("dpop-nonce").and_then(|nonce| nonce.to_str().ok());
        let proof = prove(nonce.expect("a nonce"));
        refresh_token(self.ask_for_alice(Some(proof)).await).await
    }

    async fn ask_for_alice(&self, proof: Option<String>) -> reqwest::Response {
        let form = [
            ("grant_type", "password"),
            ("username", "alice"),
            ("password", "password of alice"),
            ("scope", "openid read"),
        ];
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let mut request = self.http.post(self.token_endpoint()).basic_auth("web", Some("plain"));
        if let Some(proof) = proof {
            request = request.header("dpop", proof);
        }
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        request.send().await.expect("glewlwyd answers")
    }

    async fn configure(&mut self) {
        let login = json!({ "username": "admin", "password": "password" });
        let answer = self.send(Method::POST, "/api/auth/", &login).await;
        let cookie = answer.headers().get(SET_COOKIE).and_then(|cookie| cookie.to_str().ok());
        let cookie = cookie.and_then(|cookie| cookie.split(';').next());
        self.session = cookie.expect("the administrator has a session").to_owned();

        self.send(Method::POST, "/api/mod/plugin/", &self.plugin()).await;
        for scope in ["read", "write"] {
            let scope = json!({
                "name": scope, "password_required": true, "password_max_age": 0,
                "scheme": {}, "scheme_required": {},
            });
            self.send(Method::POST, "/api/scope/", &scope).await;
        }
        let alice = json!({
            "username": "alice", "password": "password of alice", "enabled": true,
            "scope": ["openid", "read", "write"],
        });
        self.send(Method::POST, "/api/user/", &alice).await;
        for client in self.clients() {
            self.send(Method::POST, "/api/client/", &client).await;
        }
    }

    /// Its OpenID Connect plugin: what issues tokens.
    fn plugin(&self) -> Value {
        let key = key();
        json!({
            "module": "oidc", "name": "oidc", "display_name": "tokens", "enabled": true,
            "parameters": {
                "iss": self.issuer(),
                "jwt-type": "ecdsa", "jwt-key-size": "256",
                "key": key.serialize_pem(), "cert": key.public_key_pem(),
                "access-token-duration": 3600, "refresh-token-duration": 86400,
                "code-duration": 600, "refresh-token-rolling": false,
                "refresh-token-one-use": "always",
                "client-refresh-token-one-use-parameter": "refresh-token-one-use",
                "allow-non-oidc": true, "subject-type": "public",
                "auth-type-client-enabled": true, "auth-type-password-enabled": true,
                "auth-type-refresh-enabled": true, "auth-type-code-enabled": false,
                "auth-type-token-enabled": false, "auth-type-none-enabled": false,
                "auth-type-implicit-enabled": false, "auth-type-device-enabled": false,
                "request-parameter-allow": true, "request-maximum-exp": 3600,
                "client-jwks-parameter": "jwks", "client-pubkey-parameter": "pubkey",
                "introspection-revocation-allowed": true,
                "introspection-revocation-allow-target-client": true,
                "oauth-dpop-allowed": true, "oauth-dpop-iat-duration": 60,
                "oauth-dpop-nonce-mandatory": true, "oauth-dpop-nonce-counter": 3,
            },
        })
    }

    fn clients(&self) -> Vec<Value> {
        let jwk = public_jwk(&KeyPair::from_pem(&self.client_key).expect("our own key"));
        let secret = |secret: &str| json!({ "password": secret, "client_secret": secret });
        [
            ("basic", "client_secret_basic", secret("plain")),
            ("basic special", "client_secret_basic", secret("a secret: 50 %+")),
            ("post", "client_secret_post", secret("a secret: 50 %+")),
            (
                "client_secret_jwt",
                "client_secret_jwt",
                secret("a secret of more than 32 bytes in all"),
            ),
            ("private_key_jwt", "private_key_jwt", json!({ "jwks": { "keys": [jwk] } })),
            ("web", "client_secret_basic", secret("plain")),
        ]
        .map(|(client_id, method, more)| {
            let mut client = json!({
                "client_id": client_id, "name": client_id, "source": "database",
                "enabled": true, "confidential": true, "scope": ["openid", "read", "write"],
                "authorization_type": ["client_credentials", "password", "refresh_token"],
                "token_endpoint_auth_method": [method],
                "redirect_uri": ["http://127.0.0.1/callback"],
            });
            let members = client.as_object_mut().expect("an object");
            members.extend(more.as_object().expect("an object").clone());
            client
        })
        .into()
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> reqwest::Response {
        let request = self.http.request(method, format!("{}{path}", self.url));
        let request = request.header(COOKIE, &self.session).body(body.to_string());
        let answer = request.header(CONTENT_TYPE, "application/json").send().await;
        let answer = answer.expect("glewlwyd answers its administrator");
        let status = answer.status();
        if status.is_success() {
            return answer;
        }
        panic!("glewlwyd refused {path} with {status}: {:?}", answer.text().await);
    }
}

async fn refresh_token(answer: reqwest::Response) -> String {
    let status = answer.status();
    let body = answer.bytes().await.expect("a body");
    assert_eq!(status, 200, "glewlwyd refused Alice: {}", String::from_utf8_lossy(&body));
    let answer: Value = serde_json::from_slice(&body).expect("JSON");
    answer["refresh_token"].as_str().expect("a refresh token").to_owned()
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}

fn public_jwk(key: &KeyPair) -> Value {
    // An uncompressed point: a byte that says so, then both coordinates.
    let (x, y) = key.public_key_raw().get(1..).expect("a point").split_at(32);
    let [x, y] = [x, y].map(|coordinate| BASE64_URL_SAFE_NO_PAD.encode(coordinate));
    json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "ES256", "use": "sig", "kid": "1" })
}

/// A test that cannot run has failed: a skipped one would look like a passed one.
fn check_installed() {
    let is_there = |program: &str| {
        let run = Command::new(program).arg("--version").stdout(Stdio::null()).status();
        run.is_ok()
    };
    assert!(
        is_there("glewlwyd") && is_there("sqlite3") && Path::new(SCHEMA).exists(),
        "glewlwyd is not installed: run ./tests/run, which installs it, or \
         apt-get install --no-install-recommends glewlwyd sqlite3"
    );
}

fn create_database(directory: &Path) {
    let schema = fs::read_to_string(SCHEMA).expect("the package has its schema");
    let script = format!("PRAGMA synchronous = OFF; BEGIN; {schema} COMMIT;");
    let path = directory.join("schema.sql");
    fs::write(&path, script).expect("the target directory can be written to");
    let created = Command::new("sqlite3")
        .arg(directory.join("database"))
        .stdin(fs::File::open(path).expect("it was written just now"))
        .status();
    assert!(created.is_ok_and(|status| status.success()), "the database could not be made");
}

fn spawn(directory: &Path, port: u16) -> Child {
    let configuration = format!(
        r#"
        port={port}
        bind_address="127.0.0.1"
        external_url="http://127.0.0.1:{port}"
        api_prefix="api"
        log_mode="console"
        log_level="WARNING"
        cookie_secure=0
        admin_scope="g_admin"
        profile_scope="g_profile"
        user_module_path="/usr/lib/glewlwyd/user"
        user_middleware_module_path="{directory}/none"
        client_module_path="/usr/lib/glewlwyd/client"
        user_auth_scheme_module_path="/usr/lib/glewlwyd/scheme"
        plugin_module_path="/usr/lib/glewlwyd/plugin"
        hash_algorithm="SHA512"
        database = {{ type = "sqlite3", path = "{directory}/database" }};
        "#,
        directory = directory.display(),
    );
    let path = directory.join("configuration");
    fs::write(&path, configuration).expect("the target directory can be written to");
    // It ends with the test, however that ends.
    AsyncCommand::new("setpriv")
        .args(["--pdeathsig", "KILL", "glewlwyd", "--config-file"])
        .arg(path)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("glewlwyd can be started")
}

/// Waits until it answers; `false` if it has ended.
async fn is_ready(process: &mut Child, http: &reqwest::Client, url: &str) -> bool {
    for _ in 0..2000 {
        if process.try_wait().expect("the process is ours").is_some() {
            return false;
        }
        if http.get(format!("{url}/config")).send().await.is_ok() {
            return true;
        }
        sleep(Duration::from_millis(10)).await;
    }
    false
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("glewlwyd-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(path.join("none")).expect("the target directory can be written to");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

const SCHEMA: &str = "/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3";
const START_ATTEMPTS: u32 = 3;
