//! The clients that the layer fits around, as far as their types go.

#![cfg(test)]
#![cfg(feature = "reqwest")]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{Service, ServiceBuilder, util::BoxCloneService};
use tower_oauth::{
    BoxError, Buffered, CloneRequest, FixedToken, Idempotent, OAuth, OAuthLayer, TokenHandle,
    TokenSet,
};

fn layer() -> OAuthLayer {
    let token = TokenSet::bearer("abc").unwrap();
    let tokens = TokenHandle::spawn(FixedToken::new(token));
    OAuthLayer::new(tokens, "https://api.example".parse().unwrap())
}

fn is_service<Q, S: Service<Q, Error = BoxError> + Clone + Send + Sync + 'static>(_: &S) {}

#[tokio::test]
async fn reqwest_under_every_replay_policy() {
    let client = reqwest::Client::new();
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
