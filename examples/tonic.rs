//! gRPC: a server that checks tokens, and a client whose every call carries one, unary or
//! streaming. In the middle somebody revokes the token, and the next call is made twice.
//!
//! ```sh
//! cargo run --example tonic
//! ```
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "an example prints and spawns")]

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::uri::PathAndQuery;
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::{
    Request, Response, Status,
    body::Body,
    client,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{self, NamedService},
    transport::{Channel, Server},
};
use tower::{Service, ServiceBuilder};
use tower_oauth::{
    BoxError, Buffered, ClientAuth, ClientCredentials, OAuthLayer, TokenHandle,
    testing::AuthorizationServer,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let issuer = AuthorizationServer::start().await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let server = Server::builder()
        .add_service(Orders { issuer: issuer.clone() })
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);

    let auth = ClientAuth::basic("orders", "a secret");
    let tokens =
        TokenHandle::spawn(ClientCredentials::builder(issuer.token_endpoint(), auth).build()?);

    // A channel sends to one server only, so the layer lets its requests have the token whatever
    // origins it is given; name the server's all the same.
    let layer = OAuthLayer::new(tokens.clone(), url.parse()?)
        // UNAUTHENTICATED does not say that the token is to blame, so by itself it counts only
        // against a token that is ten seconds old. This example has no time for that.
        .bare_401_min_age(Duration::ZERO)
        // Messages are streams: what has been sent of one is kept, up to this size.
        .replay(Buffered::up_to(64 * 1024));
    let channel = ServiceBuilder::new()
        .layer(layer)
        .map_request(|request: http::Request<_>| request.map(Body::new))
        .service(Channel::from_shared(url)?.connect_lazy());

    // A generated client takes the same stack: `OrdersClient::new(channel)`.
    let mut client = client::Grpc::new(channel);
    println!("get: {}", get(&mut client, "pizza").await?);
    println!("watch: {:?}", watch(&mut client, "pizza").await?);

    let token = tokens.token().await?;
    println!(">> somebody revokes token {}", token.epoch());
    issuer.revoke(token.access_token().expose());
    println!("get: {}", get(&mut client, "pasta").await?);
    issuer.revoke_access_tokens();
    tokio::time::sleep(Duration::from_secs(1)).await; // one refusal a second is acted on
    println!("watch: {:?}", watch(&mut client, "pasta").await?);

    let epoch = tokens.status().epoch();
    println!("{epoch} tokens, and no call failed");
    if epoch == 3 { Ok(()) } else { Err("each refusal should have brought a new token".into()) }
}

/// A unary call.
async fn get<T>(client: &mut client::Grpc<T>, order: &str) -> Result<String, Status>
where
    T: client::GrpcService<Body>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<BoxError>,
{
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let path = PathAndQuery::from_static("/example.Orders/Get");
    Ok(client.unary(Request::new(order.to_owned()), path, Text).await?.into_inner())
}

/// A call with a stream of answers.
async fn watch<T>(client: &mut client::Grpc<T>, order: &str) -> Result<Vec<String>, Status>
where
    T: client::GrpcService<Body>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<BoxError>,
{
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let path = PathAndQuery::from_static("/example.Orders/Watch");
    let answers = client.server_streaming(Request::new(order.to_owned()), path, Text).await?;
    answers.into_inner().collect().await
}

/// The server, as tonic's code generator would write it: two methods, both for holders of a token.
#[derive(Clone)]
struct Orders {
    issuer: AuthorizationServer,
}

impl Orders {
    fn check<M>(&self, request: &Request<M>) -> Result<(), Status> {
        let header = request.metadata().get("authorization");
        let token = header.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        match token {
            Some(token) if self.issuer.is_active(token) => Ok(()),
            _ => {
                println!("   the server says UNAUTHENTICATED");
                Err(Status::unauthenticated("a valid access token is needed"))
            }
        }
    }
}

impl NamedService for Orders {
    const NAME: &'static str = "example.Orders";
}

type Boxed<T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send>>;
type Answers = Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;

impl Service<http::Request<Body>> for Orders {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let mut grpc = server::Grpc::new(Text);
            let watch = request.uri().path().ends_with("/Watch");
            Ok(if watch {
                grpc.server_streaming(Watch(this), request).await
            } else {
                grpc.unary(Get(this), request).await
            })
        })
    }
}

struct Get(Orders);

impl server::UnaryService<String> for Get {
    type Response = String;
    type Future = Boxed<Response<String>>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let checked = self.0.check(&request);
        Box::pin(async move {
            checked?;
            Ok(Response::new(format!("one {}", request.into_inner())))
        })
    }
}

struct Watch(Orders);

impl server::ServerStreamingService<String> for Watch {
    type Response = String;
    type ResponseStream = Answers;
    type Future = Boxed<Response<Answers>>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let checked = self.0.check(&request);
        Box::pin(async move {
            checked?;
            let order = request.into_inner();
            let states = ["taken", "baked", "eaten"].map(|state| Ok(format!("{order} {state}")));
            Ok(Response::new(Box::pin(tokio_stream::iter(states)) as Answers))
        })
    }
}

/// Messages of plain text, where others have protocol buffers.
#[derive(Clone, Copy)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, item: String, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(buffer, item.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let length = bytes::Buf::remaining(buffer);
        let bytes = bytes::Buf::copy_to_bytes(buffer, length);
        String::from_utf8(bytes.into()).map(Some).map_err(|_| Status::internal("not text"))
    }
}
