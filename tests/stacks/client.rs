//! The clients at the bottom of a stack.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, Uri, header};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpStream;
use tower::{
    BoxError, Service, ServiceExt, buffer::Buffer, reconnect::Reconnect, util::BoxCloneService,
};

use crate::wire::{Payload, Svc, Wire, erase};

/// A client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// hyper's HTTP/1.1 connection, a new one for each request.
    Connections,
    /// One of hyper's HTTP/1.1 connections, behind `Reconnect` and `Buffer`.
    Reconnect,
    /// hyper-util's client, HTTP/1.1.
    Legacy1,
    /// hyper-util's client, HTTP/2.
    Legacy2,
    /// reqwest, HTTP/1.1.
    Reqwest1,
    /// reqwest, HTTP/2.
    Reqwest2,
    /// tonic's channel.
    Tonic,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Connections,
        Self::Reconnect,
        Self::Legacy1,
        Self::Legacy2,
        Self::Reqwest1,
        Self::Reqwest2,
        Self::Tonic,
    ];

    /// Whether the client knows one server only, whatever the URL says.
    pub(crate) fn is_bound(self) -> bool {
        matches!(self, Self::Reconnect | Self::Tonic)
    }

    pub(crate) fn is_http2(self) -> bool {
        matches!(self, Self::Legacy2 | Self::Reqwest2 | Self::Tonic)
    }

    /// Makes the client, for a server at this origin if it knows only one.
    pub(crate) fn make(self, home: &str) -> Svc<Wire> {
        match self {
            Self::Connections => BoxCloneService::new(tower::service_fn(on_new_connection)),
            Self::Reconnect => reconnecting(address(home)).map_response(erase).boxed_clone(),
            Self::Legacy1 => {
                legacy::<Wire>(false).map_response(erase).map_err(Into::into).boxed_clone()
            }
            Self::Legacy2 => {
                legacy::<Wire>(true).map_response(erase).map_err(Into::into).boxed_clone()
            }
            Self::Reqwest1 => over_reqwest(reqwest(false)),
            Self::Reqwest2 => over_reqwest(reqwest(true)),
            Self::Tonic => tonic(home)
                .map_request(|request: Request<Wire>| request.map(tonic::body::Body::new))
                .map_response(erase)
                .map_err(Into::into)
                .boxed_clone(),
        }
    }
}

pub(crate) fn legacy<B>(http2: bool) -> Client<HttpConnector, B>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    Client::builder(TokioExecutor::new()).http2_only(http2).build_http()
}

/// Makes reqwest's client, which follows no redirect: by its own policy the second foreign hop would
/// get the token (F105).
// To be replaced by the crate's own policy, `Origins::redirect_policy()`.
pub(crate) fn reqwest(http2: bool) -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let builder = if http2 { builder.http2_prior_knowledge() } else { builder };
    builder.build().unwrap()
}

fn over_reqwest(client: reqwest::Client) -> Svc<Wire> {
    let stack = client
        .map_request(|request: Request<Wire>| {
            reqwest::Request::try_from(request.map(to_reqwest)).expect("the URL is absolute")
        })
        .map_response(from_reqwest)
        .map_err(BoxError::from);
    BoxCloneService::new(stack)
}

pub(crate) fn from_reqwest(response: reqwest::Response) -> Response<crate::wire::Answer> {
    erase(Response::<reqwest::Body>::from(response))
}

/// A body that is at hand stays one, so that reqwest can clone it.
fn to_reqwest(body: Wire) -> reqwest::Body {
    match &body {
        Wire::Story(story) => story.at_hand().map_or_else(|| reqwest::Body::wrap(body), Into::into),
        Wire::Erased(_) => reqwest::Body::wrap(body),
    }
}

pub(crate) fn tonic(home: &str) -> tonic::transport::Channel {
    tonic::transport::Channel::from_shared(home.to_owned()).unwrap().connect_lazy()
}

/// As a server wants it: a path, and the host in a header.
fn in_origin_form<B>(mut request: Request<B>, host: &str) -> Request<B> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().expect("it was part of a URL");
    request.headers_mut().insert(header::HOST, HeaderValue::from_str(host).unwrap());
    request
}

async fn on_new_connection(
    request: Request<Wire>,
) -> Result<Response<crate::wire::Answer>, BoxError> {
    let authority = request.uri().authority().map(ToString::to_string);
    let authority = authority.ok_or("a request without a host")?;
    let mut connection = connect(authority.parse()?).await?;
    let response = connection.ready().await?.call(in_origin_form(request, &authority)).await?;
    Ok(erase(response))
}

/// The address in an origin.
pub(crate) fn address(origin: &str) -> SocketAddr {
    let uri: Uri = origin.parse().unwrap();
    uri.authority().unwrap().as_str().parse().unwrap()
}

/// One connection at a time to one server.
pub(crate) fn reconnecting<B: Payload>(
    address: SocketAddr,
) -> impl Service<
    Request<B>,
    Response = Response<Incoming>,
    Error = BoxError,
    Future = impl Future<Output = Result<Response<Incoming>, BoxError>> + Send,
> + Clone
+ Send
+ 'static {
    let host = address.to_string();
    let connect = tower::service_fn(|address: SocketAddr| {
        let connecting: Connecting<B> = Box::pin(connect(address));
        connecting
    });
    let reconnect = Reconnect::new(connect, address);
    let buffer = Buffer::new(reconnect, 16);
    buffer.map_request(move |request: Request<B>| in_origin_form(request, &host))
}

type Connecting<B> = Pin<Box<dyn Future<Output = Result<Connection<B>, BoxError>> + Send>>;

/// A connection as a service.
pub(crate) struct Connection<B>(http1::SendRequest<B>);

async fn connect<B: Payload>(address: SocketAddr) -> Result<Connection<B>, BoxError> {
    let stream = TcpStream::connect(address).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(Connection(sender))
}

impl<B: Payload> Service<Request<B>> for Connection<B> {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let response = self.0.send_request(request);
        Box::pin(async move { response.await.map_err(Into::into) })
    }
}
