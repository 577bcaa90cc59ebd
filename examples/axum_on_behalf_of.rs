//! An API that calls a second API on behalf of its caller: each caller's token is exchanged
//! (RFC 8693) for one to the second API, once, and kept as long as it lives.
//!
//! ```sh
//! cargo run --example axum_on_behalf_of --features pool
//! ```
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "an example prints and spawns")]

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Request, Response, StatusCode, header},
    routing::get,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_oauth::{
    BoxError, ClientAuth, Error, FetchContext, OAuthLayer, SecretSource, TokenExchange, TokenPool,
    TokenSet, TokenSource,
    testing::{AuthorizationServer, ProtectedApi},
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // One issuer for everybody, and the second API: in real life, somebody else's.
    let issuer = AuthorizationServer::start().await?;
    issuer.client("alice", "a secret").client("bob", "a secret").client("orders", "a secret");
    let stock = ProtectedApi::start(&issuer).await?;

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let orders = format!("http://{}/orders", listener.local_addr()?);
    let app = Orders { stock: client(&issuer, &stock)?, url: stock.url().into(), issuer };
    let issuer = app.issuer.clone();
    let router = Router::new().route("/orders", get(list)).with_state(app);
    tokio::spawn(async move { axum::serve(listener, router).await });

    // Two callers, three calls each.
    let http = reqwest::Client::new();
    for caller in ["alice", "bob"] {
        let token = issuer.issue_access_token(caller);
        for _ in 0..3 {
            let response = http.get(&orders).bearer_auth(&token).send().await?;
            println!("{caller}: {} {}", response.status(), response.text().await?);
        }
    }
    let stranger = http.get(&orders).bearer_auth("made-up").send().await?.status();
    println!("a stranger: {stranger}");

    let exchanges = issuer.token_request_count();
    println!("{} calls of the second API, {exchanges} exchanges", stock.request_count());
    let mut seen: Vec<_> = stock.requests().iter().map(|r| r.bearer().map(str::to_owned)).collect();
    seen.dedup();
    let good = exchanges == 2 && seen.len() == 2 && stranger == StatusCode::UNAUTHORIZED;
    if good { Ok(()) } else { Err("there should be one exchange for each caller".into()) }
}

/// The first API.
#[derive(Clone)]
struct Orders {
    issuer: AuthorizationServer,
    stock: Stock,
    url: Arc<str>,
}

type Stock = BoxCloneSyncService<Request<Body>, Response<hyper::body::Incoming>, BoxError>;

/// Its one method: it asks the second API, as the caller.
async fn list(
    State(app): State<Orders>,
    headers: HeaderMap,
) -> Result<Response<Body>, (StatusCode, String)> {
    let caller = caller(&app.issuer, &headers)
        .ok_or_else(|| (StatusCode::UNAUTHORIZED, "no valid token".to_owned()))?;
    let request = Request::get(&*app.url).extension(caller).body(Body::empty());
    let failed = |error: BoxError| (StatusCode::BAD_GATEWAY, error.to_string());
    let request = request.map_err(|error| failed(error.into()))?;
    Ok(app.stock.oneshot(request).await.map_err(failed)?.map(Body::new))
}

/// Who calls. The key of a caller's token in the pool, so it is made only of a token that was
/// checked: an API that checks signatures by itself would do that here.
fn caller(issuer: &AuthorizationServer, headers: &HeaderMap) -> Option<Caller> {
    let token = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
    issuer.is_active(token).then(|| Caller(token.into()))
}

/// A caller's own token. It is not `Debug`, as it is not to be printed.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Caller(Arc<str>);

/// A client of the second API, whose requests have the token of the caller that they name.
fn client(issuer: &AuthorizationServer, stock: &ProtectedApi) -> Result<Stock, BoxError> {
    let token_endpoint = issuer.token_endpoint();
    let pool = TokenPool::builder(move |caller: &Caller| OnBehalfOf {
        token_endpoint: token_endpoint.clone(),
        caller: caller.clone(),
    })
    // A caller's token lives for minutes; what it was exchanged for is not kept much longer.
    .idle_timeout(Duration::from_secs(600))
    .max_tenants(10_000)
    .spawn();
    let key = |request: &Request<Body>| request.extensions().get::<Caller>().cloned();
    let hyper: Client<HttpConnector, Body> = Client::builder(TokioExecutor::new()).build_http();
    Ok(BoxCloneSyncService::new(
        ServiceBuilder::new()
            .layer(OAuthLayer::keyed(pool, stock.url().parse()?, key))
            .service(hyper),
    ))
}

/// The exchange of one caller's token.
struct OnBehalfOf {
    token_endpoint: String,
    caller: Caller,
}

impl TokenSource for OnBehalfOf {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        let exchange = TokenExchange::builder(
            self.token_endpoint.as_str(),
            ClientAuth::basic("orders", "a secret"),
            SecretSource::from(self.caller.0.to_string()),
            TokenExchange::ACCESS_TOKEN,
        )
        .scope("stock.read")
        .build()
        .map_err(Error::other)?;
        TokenSource::fetch(&exchange, cx).await
    }
}
