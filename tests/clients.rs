//! The clients that the layer fits around, as far as their types go.

#![cfg(test)]
#![cfg(feature = "reqwest")]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]

use log_watch as _;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{Service, ServiceBuilder, util::BoxCloneService};
use tower_oauth::{
    BoxError, Buffered, CloneRequest, FixedToken, Idempotent, OAuth, OAuthLayer, Origins,
    TokenHandle, TokenSet,
};

fn layer() -> OAuthLayer {
    let token = TokenSet::bearer("abc").unwrap();
    let tokens = TokenHandle::spawn(FixedToken::new(token));
    OAuthLayer::new(tokens, "https://api.example".parse().unwrap())
}

fn is_service<Q, S: Service<Q, Error = BoxError> + Clone + Send + Sync + 'static>(_: &S) {}

#[tokio::test]
async fn reqwest_under_every_replay_policy() {
    let origins: Origins = "https://api.example".parse().unwrap();
    let client = reqwest::Client::builder().redirect(origins.redirect_policy()).build().unwrap();
    let stack = ServiceBuilder::new().layer(layer()).service(client.clone());
    is_service::<reqwest::Request, _>(&stack);
    let stack = ServiceBuilder::new().layer(layer().replay(CloneRequest)).service(client.clone());
    is_service::<reqwest::Request, _>(&stack);
    let policy = Idempotent(Buffered::up_to(1024));
    let stack = ServiceBuilder::new().layer(layer().replay(policy)).service(client);
    is_service::<reqwest::Request, _>(&stack);
}

#[tokio::test]
async fn hyper_util_under_every_replay_policy() {
    type Hyper = Client<HttpConnector, Full<Bytes>>;
    let client: Hyper = Client::builder(TokioExecutor::new()).build_http();
    let stack = ServiceBuilder::new().layer(layer().replay(CloneRequest)).service(client);
    is_service::<http::Request<Full<Bytes>>, _>(&stack);
    let client: Client<_, tower_oauth::middleware::ReplayBody<Full<Bytes>>> =
        Client::builder(TokioExecutor::new()).build_http();
    let stack = ServiceBuilder::new().layer(layer().replay(Buffered::up_to(9))).service(client);
    is_service::<http::Request<Full<Bytes>>, _>(&stack);
}

/// A follower makes empty bodies: a `Buffered` layer above it needs them to have a default.
#[tokio::test]
async fn a_redirect_follower_under_a_buffered_layer() {
    let client: Client<HttpConnector, tower_oauth::middleware::ReplayBody<Full<Bytes>>> =
        Client::builder(TokioExecutor::new()).build_http();
    let stack = ServiceBuilder::new()
        .layer(layer().replay(Buffered::up_to(9)))
        .layer(tower_http::follow_redirect::FollowRedirectLayer::new())
        .service(client);
    is_service::<http::Request<Full<Bytes>>, _>(&stack);
}

/// A generated tonic client takes any such service.
#[tokio::test]
async fn tonic_takes_the_stack_for_a_channel() {
    fn is_channel<S>(channel: S) -> tonic::client::Grpc<S>
    where
        S: tonic::client::GrpcService<tonic::body::Body>,
    {
        tonic::client::Grpc::new(channel)
    }
    let channel = tonic::transport::Channel::from_static("http://127.0.0.1:1").connect_lazy();
    let channel: OAuth<tonic::transport::Channel> =
        ServiceBuilder::new().layer(layer()).service(channel);
    let _client = is_channel(channel);
}

#[tokio::test]
async fn the_stack_can_be_boxed() {
    let client = tower::service_fn(|_: http::Request<String>| async {
        Ok::<_, std::io::Error>(http::Response::new(String::new()))
    });
    let stack = ServiceBuilder::new().layer(layer()).service(client);
    let _boxed: BoxCloneService<http::Request<String>, http::Response<String>, BoxError> =
        BoxCloneService::new(stack);
}

/// As `kube::Client::new` takes it: its requests have a body of its own, which is not `Clone`, and
/// it boxes what it is given.
#[tokio::test]
async fn kube_takes_the_stack_with_its_boxed_body() {
    use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
    use tower::{buffer::Buffer, util::BoxService};

    type KubeBody = UnsyncBoxBody<Bytes, BoxError>;

    fn new_client<S, B>(service: S) -> usize
    where
        S: Service<http::Request<KubeBody>, Response = http::Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let boxed = BoxService::new(
            ServiceBuilder::new()
                .map_response(|response: http::Response<B>| {
                    response.map(|body| body.map_err(Into::into).boxed_unsync())
                })
                .map_err(Into::into)
                .service(service),
        );
        let client: Buffer<http::Request<KubeBody>, _> = Buffer::new(boxed, 1024);
        size_of_val(&client)
    }

    let hyper: Client<HttpConnector, KubeBody> = Client::builder(TokioExecutor::new()).build_http();
    new_client(ServiceBuilder::new().layer(layer()).service(hyper));
    let hyper: Client<_, tower_oauth::middleware::ReplayBody<KubeBody>> =
        Client::builder(TokioExecutor::new()).build_http();
    new_client(ServiceBuilder::new().layer(layer().replay(Buffered::up_to(9))).service(hyper));
    let _body: KubeBody = Empty::new().map_err(|never| match never {}).boxed_unsync();
}
