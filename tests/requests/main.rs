//! Requests that wait and requests that are refused: what they hold, how long they take, and what a
//! refusal leads to.
#![cfg(test)]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]

use log_watch as _;

#[path = "../common/mod.rs"]
mod common;

mod budget;
mod classifier;
#[cfg(feature = "reqwest")]
mod elsewhere;
mod fail_fast;
mod held;
mod once;
mod readiness;
mod spacing;
#[cfg(feature = "pool")]
mod tenants;
mod trailers;
mod trial;

use std::time::Duration;

use http::{Request, Response};
use tower::{Service, ServiceExt};
use tower_oauth::{BoxError, Error, ErrorKind, OAuthLayer, TokenHandle};

const HOUR: Duration = Duration::from_secs(3600);
const API: &str = "https://api.example";

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn layer(tokens: &TokenHandle) -> OAuthLayer {
    OAuthLayer::new(tokens.clone(), API.parse().unwrap())
}

fn get(url: &str) -> Request<String> {
    Request::get(url).body(String::new()).unwrap()
}

/// Sends a request through a clone of its own.
fn send<S>(
    client: &S,
    request: Request<String>,
) -> impl Future<Output = Result<Response<String>, BoxError>> + use<S>
where
    S: Service<Request<String>, Response = Response<String>, Error = BoxError> + Clone,
{
    client.clone().oneshot(request)
}

fn kind(error: &BoxError) -> ErrorKind {
    Error::find(&**error).expect("the error is ours").kind()
}
