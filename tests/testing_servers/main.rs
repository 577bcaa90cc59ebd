//! The servers of the room `testing`, over both ways that lead to them.
#![cfg(feature = "testing")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use log_watch as _;

mod api;
mod in_process;
mod loopback;
mod token_endpoint;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tower::ServiceExt;
use tower_oauth::testing::{AuthorizationServer, ConnectionError, ReplyBody, TestService};

type Request = http::Request<Full<Bytes>>;
type Response = http::Response<ReplyBody>;

/// The id and secret `orders`, `s3cr3t`.
const BASIC: &str = "Basic b3JkZXJzOnMzY3IzdA==";
const FORM: &str = "application/x-www-form-urlencoded";
const CLIENT_CREDENTIALS: &str = "grant_type=client_credentials";

/// A POST of a form, without client authentication in its header.
fn form(url: &str, body: &str) -> Request {
    let request = http::Request::post(url).header("content-type", FORM);
    request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()
}

/// A token request with Basic credentials.
fn token_request(server: &AuthorizationServer, body: &str) -> Request {
    let mut request = form(&server.token_endpoint(), body);
    request.headers_mut().insert("authorization", BASIC.parse().unwrap());
    request
}

async fn call<B>(
    service: TestService,
    request: http::Request<B>,
) -> Result<Response, ConnectionError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    service.oneshot(request).await
}

async fn json(response: Response) -> Value {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

/// Sends a token request; returns the status and the JSON.
async fn exchange(server: &AuthorizationServer, body: &str) -> (u16, Value) {
    let response = call(server.service(), token_request(server, body)).await.unwrap();
    (response.status().as_u16(), json(response).await)
}

fn refresh(token: &str) -> String {
    format!("grant_type=refresh_token&refresh_token={token}")
}

fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_default().to_owned()
}

/// A body that fails when it is read.
struct Broken;

impl Body for Broken {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(Some(Err(io::Error::other("broken"))))
    }
}
