//! The layer as a middleware of `reqwest-middleware`: the same rules as in a tower stack.
#![cfg(test)]
#![cfg(all(feature = "testing", feature = "reqwest-middleware"))]

use log_watch as _;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::Extensions;
use reqwest::{Request, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};
use tower_oauth::{
    Buffered, ClientAuth, ClientCredentials, CloneRequest, Error, ErrorKind, ExistingAuthorization,
    FixedToken, ForeignOrigin, OAuthLayer, TokenHandle, TokenSet,
    observe::Event,
    testing::{AuthorizationServer, ProtectedApi},
};

async fn servers() -> (AuthorizationServer, ProtectedApi) {
    let issuer = AuthorizationServer::start().await.unwrap();
    issuer.client("orders", "s3cr3t");
    let api = ProtectedApi::start(&issuer).await.unwrap();
    (issuer, api)
}

fn tokens(issuer: &AuthorizationServer, secret: &'static str) -> TokenHandle {
    let auth = ClientAuth::basic("orders", secret);
    TokenHandle::spawn(ClientCredentials::builder(issuer.token_endpoint(), auth).build().unwrap())
}

fn layer(tokens: &TokenHandle, api: &ProtectedApi) -> OAuthLayer {
    OAuthLayer::new(tokens.clone(), api.url().parse().unwrap())
}

fn client(middleware: impl Middleware) -> ClientWithMiddleware {
    ClientBuilder::new(follows_none()).with(middleware).build()
}

fn follows_none() -> reqwest::Client {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

#[tokio::test]
async fn every_request_to_the_api_has_the_token_and_one_elsewhere_has_not() {
    let (issuer, api) = servers().await;
    let elsewhere = ProtectedApi::start(&issuer).await.unwrap();
    let client = client(layer(&tokens(&issuer, "s3cr3t"), &api));
    for _ in 0..3 {
        assert_eq!(client.get(api.url()).send().await.unwrap().status(), 200);
    }
    assert_eq!(client.get(elsewhere.url()).send().await.unwrap().status(), 401);
    assert!(elsewhere.requests()[0].bearer().is_none());
    assert_eq!(issuer.token_request_count(), 1);
}

#[tokio::test]
async fn a_foreign_origin_and_an_authorization_header_are_refused_on_request() {
    let (issuer, api) = servers().await;
    let layer = layer(&tokens(&issuer, "s3cr3t"), &api);
    let own = |layer: OAuthLayer| client(layer).get(api.url()).header("authorization", "Mine");

    own(layer.clone()).send().await.unwrap();
    assert_eq!(api.requests()[0].headers["authorization"], "Mine");
    let replace = layer.clone().existing_authorization(ExistingAuthorization::Replace);
    assert_eq!(own(replace).send().await.unwrap().status(), 200);

    let refuse = layer.clone().existing_authorization(ExistingAuthorization::Refuse);
    let error = own(refuse).send().await.unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::AuthorizationPresent));
    let refuse = client(layer.foreign_origin(ForeignOrigin::Refuse));
    let error = refuse.get("http://127.0.0.1:1/").send().await.unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::Origin));
    assert_eq!(api.request_count(), 2);
}

#[tokio::test]
async fn a_refused_request_is_sent_again_once_with_a_newer_token() {
    let (issuer, api) = servers().await;
    let tokens = tokens(&issuer, "s3cr3t");
    let client = client(layer(&tokens, &api).replay(CloneRequest));
    assert_eq!(client.get(api.url()).send().await.unwrap().status(), 200);
    issuer.revoke_access_tokens();
    let response = client.post(api.url()).body("one pizza").send().await.unwrap();
    assert_eq!(response.status(), 200);
    let requests = api.requests();
    assert_eq!(requests.len(), 3);
    assert_ne!(requests[1].bearer(), requests[2].bearer());
    assert_eq!(&requests[2].body[..], b"one pizza");
    assert_eq!(issuer.token_request_count(), 2);
}

#[tokio::test]
async fn a_stream_is_sent_again_from_what_was_kept_of_it() {
    let (issuer, api) = servers().await;
    let client = client(layer(&tokens(&issuer, "s3cr3t"), &api).replay(Buffered::up_to(1024)));
    client.get(api.url()).send().await.unwrap();
    issuer.revoke_access_tokens();
    let parts = tokio_stream::iter(["one ", "pizza"].map(Ok::<_, std::io::Error>));
    let body = reqwest::Body::wrap_stream(parts);
    assert_eq!(client.post(api.url()).body(body).send().await.unwrap().status(), 200);
    assert_eq!(&api.requests()[2].body[..], b"one pizza");
}

/// Counts the attempts it sees, and notes each among the extensions.
struct Count(Arc<AtomicUsize>);

#[async_trait::async_trait]
impl Middleware for Count {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let before = extensions.insert(self.0.fetch_add(1, Ordering::Relaxed));
        assert_eq!(before, self.0.load(Ordering::Relaxed).checked_sub(2));
        next.run(request, extensions).await
    }
}

#[tokio::test]
async fn what_stands_below_sees_each_attempt_and_the_callers_extensions() {
    let (issuer, api) = servers().await;
    let tokens = tokens(&issuer, "s3cr3t");
    tokens.ready().await.unwrap();
    issuer.revoke_access_tokens();
    let seen = Arc::new(AtomicUsize::new(0));
    let client = ClientBuilder::new(follows_none())
        .with(layer(&tokens, &api).replay(CloneRequest))
        .with(Count(seen.clone()))
        .build();
    assert_eq!(client.get(api.url()).send().await.unwrap().status(), 200);
    assert_eq!(seen.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_error_of_ours_and_one_of_the_client_are_told_apart() {
    let (issuer, api) = servers().await;
    let refused = client(layer(&tokens(&issuer, "wrong"), &api));
    let error = refused.get(api.url()).send().await.unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::InvalidClient));
    assert_eq!(api.request_count(), 0);

    let nobody = "http://127.0.0.1:1";
    let layer = OAuthLayer::new(tokens(&issuer, "s3cr3t"), nobody.parse().unwrap());
    let error = client(layer).get(nobody).send().await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
}

#[tokio::test]
async fn f81_a_trace_request_gets_no_token_and_f80_that_is_reported() {
    let (issuer, api) = servers().await;
    let auth = ClientAuth::basic("orders", "s3cr3t");
    let source = ClientCredentials::builder(issuer.token_endpoint(), auth).build().unwrap();
    let passed = Arc::new(AtomicUsize::new(0));
    let counted = passed.clone();
    let tokens = TokenHandle::builder(source)
        .observer(move |event: &Event<'_>| {
            let passed = matches!(event, Event::PassedWithoutToken { .. });
            counted.fetch_add(usize::from(passed), Ordering::Relaxed);
        })
        .spawn();
    let client = client(layer(&tokens, &api));
    client.request(http::Method::TRACE, api.url()).send().await.unwrap();
    assert!(api.requests()[0].bearer().is_none());
    assert_eq!(passed.load(Ordering::Relaxed), 1);
    assert_eq!(client.get(api.url()).send().await.unwrap().status(), 200);
    assert_eq!(passed.load(Ordering::Relaxed), 1);
}

fn kind(error: &reqwest_middleware::Error) -> Option<ErrorKind> {
    match error {
        reqwest_middleware::Error::Middleware(error) => {
            error.downcast_ref::<Error>().map(Error::kind)
        }
        reqwest_middleware::Error::Reqwest(_) => None,
    }
}

/// Answers in the client's place.
struct Stub;

#[async_trait::async_trait]
impl Middleware for Stub {
    async fn handle(
        &self,
        _: Request,
        _: &mut Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        Ok(http::Response::new("").into())
    }
}

/// Once, each request built what a service builds once, with a part for every core.
#[test]
fn a_request_with_a_token_at_hand_allocates_a_few_times_only() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _in_runtime = runtime.enter();
    let source = FixedToken::new(TokenSet::bearer("abc").unwrap());
    let tokens = TokenHandle::spawn(source);
    runtime.block_on(tokens.ready()).unwrap();
    let layer = OAuthLayer::new(tokens, "https://api.example".parse().unwrap());
    let without = ClientBuilder::new(follows_none()).with(Stub).build();
    let with = ClientBuilder::new(follows_none()).with(layer).with(Stub).build();
    let [without, with] = [without, with].map(|client| {
        let request = || client.get("https://api.example/").build().unwrap();
        drop(runtime.block_on(client.execute(request())).unwrap());
        let request = request();
        allocation_counter::measure(|| drop(runtime.block_on(client.execute(request)).unwrap()))
    });
    let more = with.count_total - without.count_total;
    assert!(more <= 5, "{more} allocations");
}
