//! Callers of the API, one and many.

use std::{collections::BTreeSet, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::ServiceExt as _;
use tower_oauth::{
    BoxError, ClientAuth, ClientCredentials, CloneRequest, OAuth, OAuthLayer, Status, TokenHandle,
};

use crate::common::node::OidcServer;

/// A client of the API, through the layer.
#[derive(Clone)]
pub(crate) struct Caller {
    api: String,
    service: OAuth<reqwest::Client, CloneRequest>,
}

/// What the API answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Whose token it was, and which.
    pub(crate) body: serde_json::Value,
}

impl Caller {
    pub(crate) fn new(server: &OidcServer, tokens: &TokenHandle) -> Result<Self, BoxError> {
        Self::over(client(server)?, server, tokens)
    }

    /// With a client of its own below the layer.
    pub(crate) fn over(
        client: reqwest::Client,
        server: &OidcServer,
        tokens: &TokenHandle,
    ) -> Result<Self, BoxError> {
        let layer = OAuthLayer::new(tokens.clone(), server.api().parse()?).replay(CloneRequest);
        let service = tower::ServiceBuilder::new().layer(layer).service(client);
        Ok(Self { api: server.api().to_owned(), service })
    }

    pub(crate) async fn call(&self, path: &str) -> Result<Answer, BoxError> {
        let url = format!("{}{path}", self.api).parse()?;
        let request = reqwest::Request::new(reqwest::Method::GET, url);
        let response = self.service.clone().oneshot(request).await?;
        let status = response.status().as_u16();
        Ok(Answer { status, body: serde_json::from_slice(&response.bytes().await?)? })
    }
}

impl Answer {
    /// The client that the token was given to.
    pub(crate) fn client(&self) -> &str {
        self.body["client"].as_str().unwrap_or_default()
    }

    pub(crate) fn token(&self) -> &str {
        self.body["token"].as_str().unwrap_or_default()
    }
}

/// Many callers at once, none of which may notice anything.
pub(crate) struct Load {
    callers: JoinSet<Result<BTreeSet<String>, BoxError>>,
    stop: watch::Sender<bool>,
}

impl Load {
    pub(crate) fn start(caller: &Caller) -> Self {
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
                    tokens.insert(answer.token().to_owned());
                    sleep(PAUSE).await;
                }
                Ok(tokens)
            });
        }
        Self { callers, stop }
    }

    /// Ends the load. Returns the tokens that were used, or the first error that a caller saw.
    pub(crate) async fn stop(self) -> Result<BTreeSet<String>, BoxError> {
        self.stop.send_replace(true);
        let mut tokens = BTreeSet::new();
        for used in self.callers.join_all().await {
            tokens.extend(used?);
        }
        Ok(tokens)
    }
}

pub(crate) fn client_credentials(server: &OidcServer) -> Result<TokenHandle, BoxError> {
    let auth = ClientAuth::basic("basic", "secret of basic");
    let source = ClientCredentials::builder(server.token_endpoint(), auth).scope("read").build()?;
    Ok(TokenHandle::spawn(source))
}

pub(crate) async fn wait_until(
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

pub(crate) async fn post(
    server: &OidcServer,
    url: &str,
    form: &[(&str, &str)],
) -> Result<u16, BoxError> {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = client(server)?.post(url).body(body);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    Ok(request.send().await?.status().as_u16())
}

/// A client that trusts the servers.
pub(crate) fn client(server: &OidcServer) -> Result<reqwest::Client, BoxError> {
    let client = server.trust()(reqwest::Client::builder());
    Ok(client.redirect(reqwest::redirect::Policy::none()).build()?)
}

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const CALLERS: usize = 16;
/// Between two requests of a caller: the load is steady, and leaves room for other tests.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);
/// More than anything here takes, on a slow machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// The secret in `tests/servers/oidc.mjs` that is full of reserved characters.
pub(crate) const RESERVED_SECRET: &str = r#"p@ss w:rd/%+&=?"~!*()'"#;
