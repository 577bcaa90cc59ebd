//! Two servers, a token handle, and a client of either kind.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::{Instant, sleep};
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_oauth::{
    BoxError, ClientAuth, ClientCredentials, CloneRequest, Error, OAuthLayer, Origins, TokenHandle,
    TokenSource,
    observe::Event,
    testing::{AuthorizationServer, ProtectedApi},
};

/// A client with the layer on it, whatever it is made of.
pub(crate) type Stack = BoxCloneSyncService<Request<Bytes>, Response<Bytes>, BoxError>;

pub(crate) type HyperClient = Client<HttpConnector, Full<Bytes>>;

/// The client below the layer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Below {
    /// `reqwest::Client`, which takes `reqwest::Request`.
    Reqwest,
    /// `hyper_util`'s client, which takes `http::Request`.
    Hyper,
}

impl Below {
    /// The layer over a client of this kind.
    pub(crate) fn under(self, layer: OAuthLayer<CloneRequest>) -> Stack {
        match self {
            Self::Reqwest => reqwest_under(layer, no_proxy()),
            Self::Hyper => {
                let stack = ServiceBuilder::new()
                    .map_request(|request: Request<Bytes>| request.map(Full::new))
                    .layer(layer)
                    .service(hyper());
                BoxCloneSyncService::new(stack.and_then(read))
            }
        }
    }
}

/// The layer over this reqwest client.
pub(crate) fn reqwest_under(layer: OAuthLayer<CloneRequest>, client: reqwest::Client) -> Stack {
    let stack = ServiceBuilder::new()
        .map_request(|request: Request<Bytes>| reqwest::Request::try_from(request).unwrap())
        .layer(layer)
        .service(client);
    let whole = |response: reqwest::Response| read(Response::<reqwest::Body>::from(response));
    BoxCloneSyncService::new(stack.and_then(whole))
}

pub(crate) fn hyper() -> HyperClient {
    Client::builder(TokioExecutor::new()).build_http()
}

/// A client that follows no redirects.
pub(crate) fn no_proxy() -> reqwest::Client {
    following(reqwest::redirect::Policy::none())
}

pub(crate) fn following(policy: reqwest::redirect::Policy) -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(policy).build().unwrap()
}

async fn read<B>(response: Response<B>) -> Result<Response<Bytes>, BoxError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (parts, body) = response.into_parts();
    Ok(Response::from_parts(parts, body.collect().await.map_err(Into::into)?.to_bytes()))
}

/// Makes a test for each client of functions that take one.
macro_rules! with_each_client {
    ($($test:ident),+ $(,)?) => {
        mod reqwest {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::harness::Below::Reqwest).await;
                }
            )+
        }
        mod hyper {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::harness::Below::Hyper).await;
                }
            )+
        }
    };
}

/// Both servers, and a handle whose tokens come from the one and go to the other.
pub(crate) struct Product {
    pub(crate) server: AuthorizationServer,
    pub(crate) api: ProtectedApi,
    pub(crate) tokens: TokenHandle,
    pub(crate) events: Events,
}

impl Product {
    /// With client credentials, and tokens that live this long.
    pub(crate) async fn start(lifetime: Duration) -> Self {
        let server = server(lifetime).await;
        let source = client_credentials(&server);
        Self::with(server, source).await
    }

    /// With tokens of this source. The first one is there.
    pub(crate) async fn with(server: AuthorizationServer, source: impl TokenSource) -> Self {
        let api = ProtectedApi::start(&server).await.unwrap();
        let events = Events::default();
        let tokens = TokenHandle::builder(source).observer(events.observer()).spawn();
        tokens.ready().await.unwrap();
        Self { server, api, tokens, events }
    }

    pub(crate) fn layer(&self) -> OAuthLayer<CloneRequest> {
        let origins: Origins = self.api.url().parse().unwrap();
        OAuthLayer::new(self.tokens.clone(), origins).replay(CloneRequest)
    }

    pub(crate) fn stack(&self, below: Below) -> Stack {
        below.under(self.layer())
    }

    pub(crate) async fn get(&self, stack: &Stack) -> Result<u16, BoxError> {
        get(stack, &format!("{}/orders", self.api.url())).await
    }

    /// The current token, as it stands in the header.
    pub(crate) fn current(&self) -> String {
        self.tokens.current().expect("there is a token").access_token().expose().to_owned()
    }
}

pub(crate) async fn server(lifetime: Duration) -> AuthorizationServer {
    let server = AuthorizationServer::start().await.unwrap();
    server.client("orders", "s3cr3t").lifetime(lifetime);
    server
}

pub(crate) fn client_credentials(server: &AuthorizationServer) -> ClientCredentials {
    ClientCredentials::builder(server.token_endpoint(), ClientAuth::basic("orders", "s3cr3t"))
        .build()
        .unwrap()
}

/// Sends a request and reads the whole answer; returns its status.
pub(crate) async fn get(stack: &Stack, url: &str) -> Result<u16, BoxError> {
    let request = Request::get(url).body(Bytes::new()).unwrap();
    Ok(stack.clone().oneshot(request).await?.status().as_u16())
}

/// Our error in what a client returned.
pub(crate) fn ours(error: &BoxError) -> &Error {
    Error::find(&**error).expect("the error is ours")
}

/// Waits for something that comes soon.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(9), "waited in vain: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// The names of the events so far.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<&'static str>>>);

impl Events {
    pub(crate) fn count(&self, name: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|event| **event == name).count()
    }

    pub(crate) fn observer(&self) -> impl Fn(&Event<'_>) + Send + Sync + 'static {
        let events = self.0.clone();
        move |event| {
            events.lock().unwrap().push(match event {
                Event::Obtained { .. } => "obtained",
                Event::Failed { .. } => "failed",
                Event::Expired { .. } => "expired",
                Event::Rejected { .. } => "rejected",
                Event::Waited { .. } => "waited",
                Event::Replayed { .. } => "replayed",
                Event::RedirectFollowed { first: true, .. } => "redirected",
                Event::RedirectFollowed { first: false, .. } => "redirected again",
                _ => "other",
            });
        }
    }
}
