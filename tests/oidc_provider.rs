//! Against `oidc-provider`, an authorization server that is not ours, and an API that checks the
//! tokens it gets.
#![cfg(feature = "reqwest")]

mod common;

use std::{collections::BTreeSet, time::Duration};

use common::node::OidcServer;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::ServiceExt as _;
use tower_oauth::{
    BoxError, ClientAuth, ClientCredentials, CloneRequest, Error, ErrorKind, OAuth, OAuthLayer,
    RefreshToken, Status, TokenHandle,
};

#[tokio::test]
async fn every_way_of_authenticating_gets_a_token_that_the_api_takes() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let clients = [
        ClientAuth::basic("basic", "secret of basic"),
        ClientAuth::post("post", "secret of post"),
        ClientAuth::basic("basic special:id/%+", RESERVED_SECRET),
        ClientAuth::post("post special:id/%+", RESERVED_SECRET),
    ];
    for auth in clients {
        let client_id = auth.client_id().to_owned();
        let tokens = TokenHandle::spawn(
            ClientCredentials::builder(server.token_endpoint(), auth).scope("read").build()?,
        );
        tokens.ready().await.map_err(|error| format!("{client_id}: {error}"))?;
        let answer = Caller::new(&server, &tokens)?.call("/").await?;
        assert_eq!((answer.status, &answer.client), (200, &client_id));
        assert_eq!(answer.token, tokens.token().await?.access_token().expose());
    }
    assert_eq!(server.token_requests().await.len(), 4);
    Ok(())
}

/// Each algorithm, from PEM and from a JWK, and with a shared secret: the issuer is the audience.
#[cfg(feature = "private-key-jwt")]
#[tokio::test]
async fn jwt_01_jwt_02_jwt_06_every_kind_of_assertion_is_accepted() -> Result<(), BoxError> {
    use tower_oauth::{ClientAssertion, SecretSource, SigningAlgorithm, SigningKey};

    let server = OidcServer::start_with_signing_clients(HOUR).await;
    let mut assertions = vec![ClientAssertion::client_secret(
        "client_secret_jwt",
        "a secret of more than 32 bytes in all",
        server.issuer(),
    )];
    for (name, algorithm) in [
        ("RS256", SigningAlgorithm::Rs256),
        ("PS256", SigningAlgorithm::Ps256),
        ("ES256", SigningAlgorithm::Es256),
        ("ES384", SigningAlgorithm::Es384),
        ("EdDSA", SigningAlgorithm::EdDsa),
    ] {
        let file = |format| SecretSource::file(server.client_key(name, format));
        let keys = [SigningKey::pem(file("pem"), algorithm), SigningKey::jwk(file("jwk"))];
        assertions.extend(keys.map(|key| {
            let client = format!("private_key_jwt {name}");
            ClientAssertion::private_key(client, key, server.issuer())
        }));
    }
    for assertion in assertions {
        let shown = format!("{assertion:?}");
        let source = ClientCredentials::builder(server.token_endpoint(), assertion).build()?;
        let tokens = TokenHandle::spawn(source);
        tokens.ready().await.map_err(|error| format!("{shown}: {error}"))?;
        assert_eq!(Caller::new(&server, &tokens)?.call("/").await?.status, 200);
        // The server refuses an identifier that it has seen.
        tokens.refresh().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_secret_is_an_invalid_client() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let auth = ClientAuth::basic("basic", "another secret");
    let source = ClientCredentials::builder(server.token_endpoint(), auth).build()?;
    let error = TokenHandle::spawn(source).ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidClient);
    assert!(!format!("{error:?}").contains("another secret"));
    Ok(())
}

#[tokio::test]
async fn too_little_scope_reaches_the_caller_and_costs_no_token_request() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let caller = Caller::new(&server, &client_credentials(&server)?)?;
    assert_eq!(caller.call("/scope/read").await?.status, 200);
    assert_eq!(caller.call("/scope/write").await?.status, 403);
    assert_eq!(caller.call("/").await?.status, 200);
    assert_eq!(server.token_requests().await.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_token_refused_by_the_api_costs_one_token_request() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let tokens = client_credentials(&server)?;
    let caller = Caller::new(&server, &tokens)?;
    let refused = caller.call("/").await?.token;
    server.refuse_at_api(&refused).await;

    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let caller = caller.clone();
        callers.spawn(async move { caller.call("/").await });
    }
    for answer in callers.join_all().await {
        let answer = answer?;
        assert_eq!(answer.status, 200);
        assert_ne!(answer.token, refused);
    }
    assert_eq!(server.token_requests().await.len(), 2);
    assert!(server.api_answers().await.contains_key("401"), "the API did refuse");
    Ok(())
}

/// [RFC 7009](https://www.rfc-editor.org/rfc/rfc7009), and an opaque token, of which only the
/// authorization server knows whether it is good.
#[tokio::test]
async fn a_token_revoked_at_its_issuer_costs_one_token_request() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let auth = ClientAuth::post("post", "secret of post");
    let source = ClientCredentials::builder(server.token_endpoint(), auth)
        .scope("read")
        .resource("urn:test:opaque")
        .build()?;
    let caller = Caller::new(&server, &TokenHandle::spawn(source))?;
    let revoked = caller.call("/").await?.token;

    let credentials = [("client_id", "post"), ("client_secret", "secret of post")];
    let revocation = [("token", revoked.as_str())];
    let form = [credentials.as_slice(), &revocation].concat();
    assert_eq!(post(&format!("{}/revocation", server.token_endpoint()), &form).await?, 200);

    let answer = caller.call("/").await?;
    assert_eq!(answer.status, 200);
    assert_ne!(answer.token, revoked);
    assert_eq!(server.token_requests().await.len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_renewals_under_load_go_unnoticed_at_one_request_a_lifetime() -> Result<(), BoxError> {
    let lifetime = Duration::from_secs(3);
    let server = OidcServer::start(lifetime).await;
    let load = Load::start(&Caller::new(&server, &client_credentials(&server)?)?);

    sleep(lifetime * 10).await;
    let tokens = load.stop().await?;
    let requests = server.token_requests().await;

    assert!(requests.len() > 10, "{requests:?}");
    assert!(requests.iter().all(|request| request.status == 200), "{requests:?}");
    for (earlier, later) in requests.iter().zip(requests.iter().skip(1)) {
        // Renewed when 75 to 85 % of the lifetime are over; never twice, never late.
        let gap = later.at.checked_sub(earlier.at).ok_or("the server's clock went back")?;
        assert!(gap > lifetime.mul_f64(0.7) && gap < lifetime, "{gap:?} in {requests:?}");
    }
    // The last one may have come too late to be used.
    assert!(tokens.len() == requests.len() || tokens.len() + 1 == requests.len());
    assert!(server.api_answers().await.keys().eq(["200"]), "not even a replayed 401");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_within_a_tokens_life_goes_unnoticed() -> Result<(), BoxError> {
    let mut server = OidcServer::start(Duration::from_secs(20)).await;
    let tokens = client_credentials(&server)?;
    let load = Load::start(&Caller::new(&server, &tokens)?);
    tokens.ready().await?;
    server.kill().await;

    // The renewal falls into the outage.
    wait_until(&tokens, |status| status.failures() > 0).await?;
    let error = tokens.status().error().cloned().ok_or("a failure leaves an error")?;
    assert_eq!(error.kind(), ErrorKind::Transport);
    server.restart_on_same_port().await;
    wait_until(&tokens, |status| status.failures() == 0).await?;
    tokens.refresh().await?;

    let used = load.stop().await?;
    assert!(used.len() >= 2, "the token from before the outage, and one from after it");
    assert!(server.token_requests().await.iter().all(|request| request.status == 200));
    assert!(server.api_answers().await.keys().eq(["200"]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_longer_than_a_tokens_life_ends_by_itself() -> Result<(), BoxError> {
    let mut server = OidcServer::start(Duration::from_secs(3)).await;
    let tokens = client_credentials(&server)?;
    let caller = Caller::new(&server, &tokens)?;
    assert_eq!(caller.call("/").await?.status, 200);
    server.kill().await;

    let error = timeout(PATIENCE, async {
        loop {
            match caller.call("/").await {
                Ok(answer) => assert_eq!(answer.status, 200),
                Err(error) => break error,
            }
            sleep(PAUSE).await;
        }
    });
    let error = error.await?;
    let error = Error::find(error.as_ref()).ok_or("the error is not the layer's")?;
    assert_eq!(error.kind(), ErrorKind::Transport);
    assert!(error.is_retryable());

    server.restart_on_same_port().await;
    wait_until(&tokens, Status::is_ready).await?;
    assert_eq!(caller.call("/").await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotated_refresh_tokens_are_used_once_each() -> Result<(), BoxError> {
    let lifetime = Duration::from_secs(3);
    let server = OidcServer::start(lifetime).await;
    let auth = ClientAuth::basic("web", "secret of web");
    let initial = server.sign_in("web").await;
    let source = RefreshToken::builder(server.token_endpoint(), auth, initial).build()?;
    let tokens = TokenHandle::spawn(source);
    let load = Load::start(&Caller::new(&server, &tokens)?);

    sleep(lifetime * 4).await;
    // A refresh token used twice would have ended the session, and this would fail.
    tokens.refresh().await?;
    load.stop().await?;

    let requests = server.token_requests().await;
    assert!(requests.len() >= 5, "{requests:?}");
    for request in &requests {
        assert_eq!((request.grant.as_str(), request.status), ("refresh_token", 200));
    }
    assert!(server.api_answers().await.keys().eq(["200"]));
    Ok(())
}

/// This server ends the session when a refresh token comes twice.
#[cfg(all(feature = "store-file", unix))]
#[tokio::test]
async fn rfr_04_processes_that_share_a_store_never_send_a_refresh_token_twice()
-> Result<(), BoxError> {
    use tower_oauth::store::{FileStore, Persisted};

    let lifetime = Duration::from_secs(3);
    let server = OidcServer::start(lifetime).await;
    let initial = server.sign_in("web").await;
    let store = FileStore::temporary()?;
    let start = || {
        let auth = ClientAuth::basic("web", "secret of web");
        let source = RefreshToken::builder(server.token_endpoint(), auth, initial.as_str());
        Ok::<_, BoxError>(TokenHandle::spawn(Persisted::new(source.build()?, store.clone())))
    };
    let mut all = vec![start()?, start()?, start()?];
    let loads: Vec<_> = all.iter().map(|tokens| Caller::new(&server, tokens)).collect();
    let loads = loads.into_iter().map(|caller| caller.map(|caller| Load::start(&caller)));
    let loads = loads.collect::<Result<Vec<_>, _>>()?;
    sleep(lifetime * 4).await;
    for load in loads {
        load.stop().await?;
    }
    // One ends, and another one starts: it goes on with what is stored.
    all.pop();
    all.push(start()?);
    for tokens in &all {
        tokens.refresh().await?;
    }
    let requests = server.token_requests().await;
    // Four lifetimes, the first token, and three that were asked for.
    assert!((7..=13).contains(&requests.len()), "{requests:?}");
    for request in &requests {
        assert_eq!((request.grant.as_str(), request.status), ("refresh_token", 200));
    }
    Ok(())
}

#[tokio::test]
async fn a_spent_refresh_token_needs_the_user() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let initial = server.sign_in("web").await;
    let auth = || ClientAuth::basic("web", "secret of web");
    let source = || RefreshToken::builder(server.token_endpoint(), auth(), initial.as_str());
    TokenHandle::spawn(source().build()?).ready().await?;

    let error = TokenHandle::spawn(source().build()?).ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidGrant);
    assert!(error.needs_user());
    Ok(())
}

#[tokio::test]
async fn the_test_servers_count_refuse_die_and_come_back() -> Result<(), BoxError> {
    let mut server = OidcServer::start(HOUR).await;
    let issuer = server.issuer().to_owned();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "post"),
        ("client_secret", "secret of post"),
    ];
    assert_eq!(post(&server.token_endpoint(), &form).await?, 200);
    let requests = server.token_requests().await;
    assert_eq!(requests.len(), 1);
    assert_eq!((requests[0].client.as_str(), requests[0].status), ("post", 200));
    assert_eq!(plain_client()?.get(server.api()).send().await?.status(), 401);
    assert_eq!(server.api_answers().await, [("401".to_owned(), 1)].into());

    server.kill().await;
    assert!(post(&server.token_endpoint(), &form).await.is_err(), "connections are refused");
    server.restart_on_same_port().await;
    assert_eq!(server.issuer(), issuer);
    assert!(server.token_requests().await.is_empty(), "the statistics start anew");
    Ok(())
}

/// A client of the API, through the layer.
#[derive(Clone)]
struct Caller {
    api: String,
    service: OAuth<reqwest::Client, CloneRequest>,
}

/// What the API answered, and to whom.
struct Answer {
    status: u16,
    client: String,
    token: String,
}

impl Caller {
    fn new(server: &OidcServer, tokens: &TokenHandle) -> Result<Self, BoxError> {
        let layer = OAuthLayer::new(tokens.clone(), server.api().parse()?).replay(CloneRequest);
        let service = tower::ServiceBuilder::new().layer(layer).service(plain_client()?);
        Ok(Self { api: server.api().to_owned(), service })
    }

    async fn call(&self, path: &str) -> Result<Answer, BoxError> {
        let url = format!("{}{path}", self.api).parse()?;
        let request = reqwest::Request::new(reqwest::Method::GET, url);
        let response = self.service.clone().oneshot(request).await?;
        let status = response.status().as_u16();
        let body: serde_json::Value = serde_json::from_slice(&response.bytes().await?)?;
        let text = |name| body.get(name).and_then(|value| value.as_str()).unwrap_or_default();
        Ok(Answer { status, client: text("client").to_owned(), token: text("token").to_owned() })
    }
}

/// Many callers at once, none of which may notice anything.
struct Load {
    callers: JoinSet<Result<BTreeSet<String>, BoxError>>,
    stop: watch::Sender<bool>,
}

impl Load {
    fn start(caller: &Caller) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (caller, stopped) = (caller.clone(), stopped.clone());
            callers.spawn(async move {
                let mut tokens = BTreeSet::new();
                while !*stopped.borrow() {
                    let answer = caller.call("/").await?;
                    if answer.status != 200 {
                        return Err(format!("the API answered {}", answer.status).into());
                    }
                    tokens.insert(answer.token);
                    sleep(PAUSE).await;
                }
                Ok(tokens)
            });
        }
        Self { callers, stop }
    }

    /// Ends the load. Returns the tokens that were used, or the first error that a caller saw.
    async fn stop(self) -> Result<BTreeSet<String>, BoxError> {
        self.stop.send_replace(true);
        let mut tokens = BTreeSet::new();
        for used in self.callers.join_all().await {
            tokens.extend(used?);
        }
        Ok(tokens)
    }
}

fn client_credentials(server: &OidcServer) -> Result<TokenHandle, BoxError> {
    let auth = ClientAuth::basic("basic", "secret of basic");
    let source = ClientCredentials::builder(server.token_endpoint(), auth).scope("read").build()?;
    Ok(TokenHandle::spawn(source))
}

async fn wait_until(
    tokens: &TokenHandle,
    condition: impl Fn(&Status) -> bool,
) -> Result<(), BoxError> {
    let mut statuses = tokens.subscribe();
    match timeout(PATIENCE, statuses.wait_for(|status| condition(status))).await {
        Ok(status) => drop(status?),
        Err(late) => return Err(format!("{late}: {:?}", tokens.status()).into()),
    }
    Ok(())
}

async fn post(url: &str, form: &[(&str, &str)]) -> Result<u16, BoxError> {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = plain_client()?.post(url).body(body);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    Ok(request.send().await?.status().as_u16())
}

/// Servers on this machine are not behind a proxy.
fn plain_client() -> Result<reqwest::Client, BoxError> {
    Ok(reqwest::Client::builder().no_proxy().build()?)
}

const HOUR: Duration = Duration::from_secs(3600);
const CALLERS: usize = 16;
/// Between two requests of a caller: the load is steady, and leaves room for other tests.
const PAUSE: Duration = Duration::from_millis(20);
/// More than anything here takes, on a slow machine too.
const PATIENCE: Duration = Duration::from_secs(40);
/// The secret in `tests/servers/oidc.mjs` that is full of reserved characters.
const RESERVED_SECRET: &str = r#"p@ss w:rd/%+&=?"~!*()'"#;
