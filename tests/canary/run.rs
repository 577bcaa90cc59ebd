//! A run of everything, with its errors and the `Debug` of its parts recorded.

use std::{collections::BTreeSet, convert::Infallible, path::PathBuf, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::json;
use tokio::time::sleep;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_oauth::{
    BoxError, Buffered, Chain, ClientAuth, ClientCredentials, CloneRequest, Error,
    ExistingAuthorization, FetchContext, FixedToken, ForeignOrigin, FromService, Idempotent,
    OAuthLayer, Origins, RefreshToken, Scopes, Secret, SecretSource, TokenHandle, TokenSet,
    TokenSource, Transport,
    observe::Event,
    source_fn,
    testing::{AuthorizationServer, ProtectedApi, Recorded, Reply, Rotation},
};

use crate::{
    calls::{calls_that_fail, calls_that_work},
    record::Record,
    scan::Canary,
};

pub(crate) const CLIENT_SECRET: &str = "cS7+Qx/9L m%2&=é;Zk8Wp3R~hTq5vNb";
pub(crate) const ACCESS_TOKEN: &str = "aT4.Yw~7/pKz+Jm2_Xc9-Rf6sGd8LbHq==";
pub(crate) const REFRESH_TOKEN: &str = "rT8:Vb!3nMx6Zt/Qe5+Wk2(Pj9)Uy7Hc";
const URL_KEY: &str = "uK5Bn8Xv2Qm7Zr4Tj9Wd3Fh6Ls1Yc0Gp";
const PANIC: &str = "pN6Kt3Jw9Vz5Rq8Mx2Hb7Df4Cg1Ls0Yp";
pub(crate) const CLIENT: &str = "orders";
const HOUR: Duration = Duration::from_secs(3600);

/// Does everything, and returns all that must not be found in the record.
pub(crate) async fn everything(record: &Record) -> Vec<Canary> {
    let mut canaries = vec![
        Canary::new("client secret", CLIENT_SECRET),
        Canary::new("access token", ACCESS_TOKEN),
        Canary::new("refresh token", REFRESH_TOKEN),
        Canary::new("key in a URL", URL_KEY),
        Canary::new("panic message", PANIC),
    ];
    canaries.extend(basic_headers().map(|header| Canary::new("Basic header", header)));
    canaries.extend(requests_and_renewals(record).await);
    canaries.extend(rotation(record).await);
    errors_that_repeat_what_was_sent(record).await;
    answers_that_cannot_be_read(record).await;
    connections_that_break(record).await;
    sources_that_fail(record).await;
    secrets_that_cannot_be_read(record).await;
    calls_that_work(record).await;
    calls_that_fail(record).await;
    requests_that_are_refused(record).await;
    canaries.extend(crate::newer::everything(record).await);
    canaries.extend(crate::kept::everything(record).await);
    configurations(record);
    parts(record);
    canaries
}

/// Encoded, as they are, and with another id.
fn basic_headers() -> impl Iterator<Item = String> {
    let encoded: String = form_urlencoded::byte_serialize(CLIENT_SECRET.as_bytes()).collect();
    [encoded, CLIENT_SECRET.to_owned()]
        .into_iter()
        .map(|secret| BASE64_STANDARD.encode(format!("{CLIENT}:{secret}")))
}

fn auths() -> [ClientAuth; 3] {
    [
        ClientAuth::basic(CLIENT, CLIENT_SECRET),
        ClientAuth::basic_unencoded(CLIENT, CLIENT_SECRET),
        ClientAuth::post(CLIENT, CLIENT_SECRET),
    ]
}

/// It takes every client: one of the methods sends a secret that a server would misread.
pub(crate) async fn server() -> AuthorizationServer {
    let server = AuthorizationServer::start().await.unwrap();
    server.lifetime(HOUR);
    server
}

pub(crate) fn hyper() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Logs the head of each request, as users do below the layer.
fn logged<S, B>(record: &Record, inner: S) -> impl Layered<B, S>
where
    S: Service<Request<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: 'static,
{
    let record = record.clone();
    ServiceBuilder::new()
        .map_request(move |request: Request<B>| {
            record.debug((request.method(), request.uri(), request.headers()));
            request
        })
        .service(inner)
}

trait Layered<B, S: Service<Request<B>>>:
    Service<Request<B>, Response = S::Response, Error = S::Error, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<T, B, S> Layered<B, S> for T
where
    S: Service<Request<B>>,
    T: Service<Request<B>, Response = S::Response, Error = S::Error, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
}

pub(crate) fn tokens(record: &Record, source: impl TokenSource) -> TokenHandle {
    let events = record.clone();
    let builder =
        TokenHandle::builder(source).observer(move |event: &Event<'_>| events.debug(event));
    record.debug(&builder);
    builder.spawn()
}

pub(crate) async fn fetch(record: &Record, source: &impl TokenSource) -> Option<TokenSet> {
    match source.fetch(FetchContext::first()).await {
        Ok(token) => {
            record.debug(&token);
            Some(token)
        }
        Err(error) => {
            record.error(error);
            None
        }
    }
}

/// Every token that a server issued, by what it was sent later.
fn issued(requests: &[Recorded]) -> impl Iterator<Item = Canary> {
    let values: BTreeSet<_> = requests
        .iter()
        .flat_map(|r| [r.bearer().map(str::to_owned), r.param("refresh_token")])
        .flatten()
        .filter(|token| token.len() > 20)
        .collect();
    values.into_iter().map(|token| Canary::new("issued token", token))
}

async fn requests_and_renewals(record: &Record) -> Vec<Canary> {
    let server = server().await;
    let api = ProtectedApi::start(&server).await.unwrap();
    let origins: Origins = api.url().parse().unwrap();
    for auth in auths() {
        for transport in [Transport::reqwest().unwrap(), Transport::new(logged(record, hyper()))] {
            let source = ClientCredentials::builder(server.token_endpoint(), auth.clone())
                .scope("orders.read")
                .transport(transport)
                .build()
                .unwrap();
            let tokens = tokens(record, source);
            let layer = OAuthLayer::new(tokens.clone(), origins.clone());
            let with_reqwest =
                layer.clone().replay(Idempotent(CloneRequest)).layer(no_proxy(&origins));
            let with_hyper = layer.replay(Buffered::up_to(100)).layer(logged(record, hyper_of()));
            record.debug(&with_reqwest);
            for _ in 0..2 {
                let url = reqwest::Url::parse(api.url()).unwrap();
                let request = reqwest::Request::new(http::Method::GET, url);
                let future = with_reqwest.clone().oneshot(request);
                let response = future.await.unwrap();
                record.debug(&response);
                let request = Request::post(api.url()).body(Full::<Bytes>::from("body")).unwrap();
                record.debug(with_hyper.clone().oneshot(request).await.unwrap());
                record.debug((&tokens, tokens.status(), tokens.current(), tokens.subscribe()));
                // Refused, and then a token is obtained while it is asked for.
                server.revoke_access_tokens();
            }
            let token = tokens.token().await.unwrap();
            record.debug((&token, token.header_value(), tokens.reject(token.epoch())));
            tokens.shutdown().await;
            record.error(tokens.token().await.unwrap_err());
        }
    }
    issued(&api.requests()).collect()
}

fn no_proxy(origins: &Origins) -> reqwest::Client {
    let client = reqwest::Client::builder().no_proxy();
    client.redirect(origins.redirect_policy()).build().unwrap()
}

/// As `hyper()`, for the bodies that a replay policy makes.
fn hyper_of() -> Client<HttpConnector, tower_oauth::middleware::ReplayBody<Full<Bytes>>> {
    Client::builder(TokioExecutor::new()).build_http()
}

async fn rotation(record: &Record) -> Vec<Canary> {
    let server = server().await;
    server.rotation(Rotation::Always { grace: Duration::ZERO });
    let initial = server.issue_refresh_token(CLIENT);
    let auth = ClientAuth::basic(CLIENT, CLIENT_SECRET);
    let source = RefreshToken::builder(server.token_endpoint(), auth, initial).build().unwrap();
    record.debug(&source);
    let tokens = tokens(record, source);
    record.debug(tokens.token().await.unwrap());
    record.debug(tokens.refresh().await.unwrap());
    server.script(Reply::honest().then_reset_before_answer());
    record.error(tokens.refresh().await.unwrap_err());
    while tokens.status().failures() < 2 {
        sleep(Duration::from_millis(20)).await;
    }
    record.error(tokens.status().error().unwrap().clone());
    record.debug(tokens.status());
    issued(&server.token_requests()).collect()
}

async fn errors_that_repeat_what_was_sent(record: &Record) {
    let form = |value: &str| form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>();
    let (secret, refresh) = (form(CLIENT_SECRET), form(REFRESH_TOKEN));
    let url = secret.replace('+', "%20");
    let server = server().await;
    for auth in auths() {
        let source = RefreshToken::builder(server.token_endpoint(), auth, REFRESH_TOKEN);
        let source = source.build().unwrap();
        assert!(fetch(record, &source).await.is_none());
        let sent = server.token_requests().pop().unwrap();
        let header = sent.header("authorization").unwrap_or_default();
        let body = String::from_utf8_lossy(&sent.body);
        for text in [
            format!("{header} {body}"),
            format!("{CLIENT_SECRET}, {secret}, {url}: {REFRESH_TOKEN}, {refresh}"),
        ] {
            for reply in [
                Reply::json(400, json!({ "error": "invalid_request", "error_description": text })),
                Reply::json(401, json!({ "error": "invalid_client", "error_description": text })),
                Reply::json(400, json!({ "error": text, "error_uri": text })),
                Reply::json(200, json!({ "error": "x", "error_description": text })),
                Reply::json(403, json!({ "error": { "status": text, "message": text } })),
                Reply::json(400, json!({ "title": text, "detail": text })),
                Reply::json(500, json!({ "message": text })),
                Reply::json(429, json!({ "error": text })).header("retry-after", "1"),
                Reply::status(502).header("content-type", "text/html").body(text.clone()),
                Reply::status(400).body(text.clone()),
                Reply::status(200).body(text.clone()),
                Reply::status(400).header("content-type", REFRESH_TOKEN),
                Reply::status(400).header("content-type", header.trim_start_matches("Basic ")),
                Reply::status(307).header("location", &format!("/?{secret}")),
            ] {
                server.script(reply);
                assert!(fetch(record, &source).await.is_none());
            }
        }
    }
}

async fn answers_that_cannot_be_read(record: &Record) {
    let server = server().await;
    let auth = ClientAuth::post(CLIENT, CLIENT_SECRET);
    let source = ClientCredentials::builder(server.token_endpoint(), auth).build().unwrap();
    let strict = {
        let auth = ClientAuth::post(CLIENT, CLIENT_SECRET);
        ClientCredentials::builder(server.token_endpoint(), auth).strict().build().unwrap()
    };
    let whole = json!({
        "access_token": ACCESS_TOKEN, "refresh_token": REFRESH_TOKEN, "token_type": "Bearer",
    })
    .to_string();
    let json = |status, body: &str| Reply::json(status, json!({})).body(body.to_owned());
    let mut replies: Vec<_> =
        (1..whole.len()).step_by(7).map(|end| json(200, &whole[..end])).collect();
    for body in [
        whole.replace("\"token_type\"", "token_type"),
        whole.replace("Bearer", ACCESS_TOKEN),
        whole.replace("Bearer", &format!("Bearer {ACCESS_TOKEN}")),
        whole.replace("\"Bearer\"", &format!("[{ACCESS_TOKEN:?}]")),
        whole.replace("\"token_type\"", "\"access_token\""),
        whole.replace("\"token_type\"", &format!("{ACCESS_TOKEN:?}")),
        whole.replace("aT4", "aT4\\r\\nX: y"),
        whole.replace("aT4", "é"),
        whole.replace("\"Bearer\"", &format!("\"Bearer\",\"expires_in\":{ACCESS_TOKEN:?}")),
        whole.replace("\"Bearer\"", &format!("\"Bearer\",\"error\":{ACCESS_TOKEN:?}")),
        whole.replace(
            "\"Bearer\"",
            &format!("\"Bearer\",\"error_description\":{REFRESH_TOKEN:?},\"error\":1"),
        ),
        format!("[{whole}]"),
        format!("{whole}{whole}"),
        format!("<html>{whole}</html>"),
        ACCESS_TOKEN.to_owned(),
        format!("{ACCESS_TOKEN:?}"),
    ] {
        replies.extend([json(200, &body), json(400, &body), json(503, &body)]);
        replies.push(Reply::status(200).header("content-type", "text/plain").body(body));
    }
    replies.extend([
        json(200, &whole).header("content-encoding", "gzip"),
        json(200, &whole).content_length_lie(whole.len() + 1),
        json(200, &whole).reset_after(whole.len() - 1),
        json(200, &whole).header("content-type", &format!("text/{ACCESS_TOKEN}")),
        Reply::raw(format!("HTTP/1.1 200 OK\r\n{ACCESS_TOKEN}\r\n\r\n{whole}")),
        Reply::raw(whole.clone()),
    ]);
    for reply in replies {
        server.script_many([reply.clone(), reply]);
        fetch(record, &source).await;
        fetch(record, &strict).await;
    }
}

async fn connections_that_break(record: &Record) {
    let server = server().await;
    server.stop().await;
    let url = format!("{}?key={URL_KEY}", server.token_endpoint());
    for transport in [Transport::reqwest().unwrap(), Transport::new(logged_head(record))] {
        let auth = ClientAuth::basic(CLIENT, CLIENT_SECRET);
        let source = ClientCredentials::builder(&*url, auth)
            .timeout(Duration::from_millis(200))
            .transport(transport)
            .build()
            .unwrap();
        record.debug(&source);
        fetch(record, &source).await;
        server.resume().unwrap();
        server.script_many([Reply::hang(), Reply::reset()]);
        fetch(record, &source).await;
        fetch(record, &source).await;
        server.stop().await;
    }
}

/// As `logged()`, without the URL, which the user wrote and only the user logs.
fn logged_head(record: &Record) -> impl Layered<Full<Bytes>, Client<HttpConnector, Full<Bytes>>> {
    let record = record.clone();
    ServiceBuilder::new()
        .map_request(move |request: Request<Full<Bytes>>| {
            record.debug(request.headers());
            request
        })
        .service(hyper())
}

async fn sources_that_fail(record: &Record) {
    let panicking = source_fn(|_| async { panic!("{PANIC}") });
    let handle = tokens(record, panicking);
    record.error(handle.refresh().await.unwrap_err());
    record.debug((&handle, handle.status()));

    let token = || TokenSet::bearer(ACCESS_TOKEN).unwrap().with_refresh_token(REFRESH_TOKEN);
    let fixed = FixedToken::new(token());
    let service = FromService::new(service_fn(move |cx: FetchContext| async move {
        Err::<TokenSet, _>(if cx.previous.is_some() { "late" } else { "early" })
    }));
    let chain = Chain::new(service.clone()).or(fixed.clone());
    record.debug((&fixed, &service, &chain));
    fetch(record, &service).await;
    let handle = tokens(record, chain);
    record.debug(handle.token().await.unwrap());
    let mut cx = FetchContext::first();
    cx.previous = Some(token().into());
    record.debug(&cx);
    record.error(TokenSet::bearer(format!("{ACCESS_TOKEN} {ACCESS_TOKEN}")).unwrap_err());
    record.error(TokenSet::bearer(format!("{ACCESS_TOKEN}\n")).unwrap_err());
    record.debug(token().with_lifetime(HOUR).with_scopes(Scopes::default()));
}

async fn secrets_that_cannot_be_read(record: &Record) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("canary-secret");
    let mut not_text = CLIENT_SECRET.as_bytes().to_vec();
    not_text.push(0xff);
    let large = CLIENT_SECRET.repeat(3000).into_bytes();
    for contents in [Some(not_text), Some(large), None] {
        match contents {
            Some(contents) => std::fs::write(&path, contents).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let secret = SecretSource::file(&path);
        record.debug(&secret);
        record.error(secret.read().await.unwrap_err());
    }
    // What cannot stand in a header.
    let auth = ClientAuth::basic_unencoded(CLIENT, format!("{CLIENT_SECRET}\r\n\0"));
    let server = server().await;
    let source = ClientCredentials::builder(server.token_endpoint(), auth).build().unwrap();
    fetch(record, &source).await;
}

async fn requests_that_are_refused(record: &Record) {
    let tokens = tokens(record, FixedToken::new(TokenSet::bearer(ACCESS_TOKEN).unwrap()));
    let layer = OAuthLayer::new(tokens, "https://api.example".parse().unwrap())
        .foreign_origin(ForeignOrigin::Refuse)
        .existing_authorization(ExistingAuthorization::Refuse)
        .replay(CloneRequest);
    record.debug(&layer);
    let client = layer
        .layer(service_fn(|_: Request<String>| async { Ok::<_, Infallible>(Response::new(())) }));
    for (url, authorization) in [
        (format!("https://elsewhere.example/?key={URL_KEY}"), None),
        ("https://api.example/".to_owned(), Some(format!("Bearer {ACCESS_TOKEN}"))),
    ] {
        let mut request = Request::get(url).body(String::new()).unwrap();
        if let Some(value) = authorization {
            request.headers_mut().insert("authorization", value.parse().unwrap());
        }
        let mut client = client.clone();
        let future = client.ready().await.unwrap().call(request);
        record.debug(&future);
        let error: BoxError = future.await.unwrap_err();
        record.error(Error::find(&*error).unwrap().clone());
        record.error(error);
    }
}

fn configurations(record: &Record) {
    let auth = || ClientAuth::basic(CLIENT, CLIENT_SECRET);
    let urls = [
        format!("https://user:{URL_KEY}@as.example/token"),
        format!("https://{URL_KEY}:{URL_KEY}@as.example/token#x"),
        format!("http://as.example/token?key={URL_KEY}"),
        format!("https://as.example/token?a={URL_KEY}#{URL_KEY}"),
        format!("user:{URL_KEY}@as.example"),
        format!("https://user:{URL_KEY}/x@as.example/"),
        format!("ftp://as.example/?x=@{URL_KEY}"),
        format!("/token?{URL_KEY}"),
    ];
    for url in &urls {
        let builder = ClientCredentials::builder(&**url, auth());
        record.debug(&builder);
        record.error(builder.build().unwrap_err());
        record.error(url.parse::<Origins>().unwrap_err());
        let good = "https://as.example/token";
        let resource = ClientCredentials::builder(good, auth()).resource(format!("{url}#"));
        record.error(resource.build().unwrap_err());
        let refresh = RefreshToken::builder(&**url, auth(), REFRESH_TOKEN);
        record.debug(&refresh);
        record.error(refresh.build().unwrap_err());
    }
    for builder in [
        ClientCredentials::builder("https://as.example", ClientAuth::basic("", CLIENT_SECRET)),
        ClientCredentials::builder("https://as.example", auth()).timeout(Duration::ZERO),
        ClientCredentials::builder("https://as.example", auth()).scope("a b"),
        ClientCredentials::builder("https://as.example", auth())
            .param("client_secret", CLIENT_SECRET),
        ClientCredentials::builder("https://as.example", auth())
            .param("x", CLIENT_SECRET)
            .param("x", CLIENT_SECRET),
    ] {
        record.error(builder.build().unwrap_err());
    }
    let with_key = format!("https://as.example/token?key={URL_KEY}");
    let good = ClientCredentials::builder(with_key, auth()).param("tenant", URL_KEY);
    record.debug(good.build().unwrap());
}

fn parts(record: &Record) {
    record.debug((Secret::from(CLIENT_SECRET), SecretSource::literal(CLIENT_SECRET)));
    record.debug((auths(), ClientAuth::none(CLIENT)));
    record.debug(SecretSource::provider(|| async { Ok(Secret::from(CLIENT_SECRET)) }));
    record.debug(SecretSource::env("ORDERS_SECRET"));
    record.debug(Transport::reqwest().unwrap());
    record.debug(RefreshToken::builder(
        "https://as.example",
        ClientAuth::none(CLIENT),
        REFRESH_TOKEN,
    ));
    let (handle, refresher) =
        TokenHandle::pair(FixedToken::new(TokenSet::bearer(ACCESS_TOKEN).unwrap()));
    record.debug((&handle, refresher));
    record.debug((CloneRequest, Buffered::up_to(7), Origins::danger_any_origin()));
}
