//! The protected API, and every other server that a request may reach.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, Collected};
use tokio::time::{Sleep, sleep};
use tower::Service;

use crate::{
    canary,
    issuer::Book,
    ledger::{Cause, Invariant, Key},
    weather::Trouble,
    world::World,
};

/// A connection to it. Each clone must be polled ready by itself.
pub(crate) struct Api {
    world: World,
    book: Book,
    ready: bool,
    busy: Option<Pin<Box<Sleep>>>,
}

/// A connection that broke, at this attempt of a request or before any.
#[derive(Debug)]
pub(crate) struct ApiError(pub(crate) Option<usize>);

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection to the API broke")
    }
}

impl std::error::Error for ApiError {}

/// What becomes of one request.
enum Fate {
    Served,
    Refused(StatusCode, Option<&'static str>),
    Redirected,
    Broken,
    Hangs,
}

impl Api {
    pub(crate) fn new(world: &World, book: &Book) -> Self {
        Self { world: world.clone(), book: book.clone(), ready: false, busy: None }
    }

    fn fate(&self, key: Key, is_good: bool, may_hang: bool) -> Fate {
        let world = &self.world;
        let refused = |text| Fate::Refused(StatusCode::UNAUTHORIZED, Some(text));
        if world.has(Trouble::ApiDown, key) {
            return Fate::Broken;
        }
        if !is_good {
            return refused(INVALID_TOKEN);
        }
        if world.has(Trouble::ApiRefuses, key) {
            return refused(INVALID_TOKEN);
        }
        if world.has(Trouble::ApiRefusesMutely, key) {
            let mute = [None, Some("Bearer realm=\"r\""), Some("Basic realm=\"r\"")];
            return Fate::Refused(StatusCode::UNAUTHORIZED, world.dice().pick(&mute));
        }
        if world.has(Trouble::ApiWantsMore, key) {
            return Fate::Refused(StatusCode::FORBIDDEN, Some(INSUFFICIENT));
        }
        let flaky = world.has(Trouble::ApiFlaky, key) && world.dice().chance(0.5);
        if !flaky && !world.befalls(0.02) {
            return Fate::Served;
        }
        match world.dice().below(10) {
            0 => Fate::Broken,
            1 => refused(INVALID_TOKEN),
            2 => Fate::Refused(StatusCode::UNAUTHORIZED, None),
            3 => refused("Bearer realm=\"unterminated"),
            4 => Fate::Refused(StatusCode::FORBIDDEN, Some(INSUFFICIENT)),
            5 => Fate::Refused(StatusCode::FORBIDDEN, None),
            6 => Fate::Refused(StatusCode::SERVICE_UNAVAILABLE, None),
            7 => Fate::Redirected,
            8 if may_hang => Fate::Hangs,
            _ => Fate::Refused(StatusCode::INTERNAL_SERVER_ERROR, None),
        }
    }
}

impl Clone for Api {
    fn clone(&self) -> Self {
        Self::new(&self.world.fork(), &self.book)
    }
}

impl<B> Service<Request<B>> for Api
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: fmt::Debug,
{
    type Response = Response<()>;
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<()>, ApiError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ApiError>> {
        if self.ready {
            return Poll::Ready(Ok(()));
        }
        if self.busy.is_none() {
            if self.world.befalls(0.005) {
                return Poll::Ready(Err(ApiError(None)));
            }
            let busy =
                self.world.befalls(0.02).then(|| self.world.dice().seconds(0.1, LONGEST_BUSY));
            self.busy = busy.map(|busy| Box::pin(sleep(busy)));
        }
        if let Some(busy) = &mut self.busy {
            ready!(busy.as_mut().poll(cx));
            self.busy = None;
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let ready = std::mem::take(&mut self.ready);
        self.world.require(Invariant::I1, ready, || "the API is called without being ready".into());
        let (parts, body) = request.into_parts();
        let number = |name: &str| {
            let text = parts.headers.get(name).and_then(|value| value.to_str().ok());
            text.and_then(|text| text.parse::<usize>().ok()).unwrap_or_default()
        };
        let (id, key) = (number("x-request") as u64, number("x-key"));
        let foreign = parts.uri.host() != Some(HOST);
        let fields = parts.headers.get_all(header::AUTHORIZATION).iter();
        let fields: Vec<_> = fields.map(|field| field.to_str().unwrap_or_default()).collect();
        self.world.require(Invariant::I1, fields.len() < 2, || format!("request {id} has two"));
        let authorization = fields.first().copied();
        let attempt = self.world.ledger().sent(id, authorization, foreign);
        let serial = authorization
            .and_then(|value| value.strip_prefix("Bearer "))
            .and_then(|token| canary::number_of("at", token));
        let may_hang = parts.headers.contains_key("x-impatient");
        let this = self.clone();
        Box::pin(async move {
            let (world, dice) = (&this.world, this.world.dice());
            let boot = world.now().boot;
            let is_good = serial.is_some_and(|serial| this.book.is_good(serial, boot));
            let fate = if foreign { Fate::Served } else { this.fate(key, is_good, may_hang) };
            let served = matches!(fate, Fate::Served);
            // One that refuses may do so from the header alone.
            if served || dice.chance(0.5) {
                let read = body.collect().await.map(Collected::to_bytes);
                let whole = read.as_ref().is_ok_and(|read| **read == *content(id).as_bytes());
                world.require(Invariant::I1, whole, || format!("request {id} has lost its body"));
            }
            let slow = world.has(Trouble::ApiSlow, key);
            sleep(dice.seconds(0.005, if slow { LONGEST_ANSWER } else { 0.3 })).await;
            let (status, challenge) = match fate {
                Fate::Served => (StatusCode::OK, None),
                Fate::Refused(status, challenge) => (status, challenge),
                Fate::Redirected => (StatusCode::TEMPORARY_REDIRECT, None),
                Fate::Broken => {
                    world.ledger().answered(id, attempt, 0, false);
                    return Err(ApiError(Some(attempt)));
                }
                Fate::Hangs => std::future::pending().await,
            };
            if challenge == Some(INSUFFICIENT) {
                world.ledger().credit(key, Cause::StepUp);
            }
            let refuses = status == StatusCode::UNAUTHORIZED;
            world.ledger().answered(id, attempt, status.as_u16(), refuses);
            let mut response = Response::new(());
            *response.status_mut() = status;
            let headers = response.headers_mut();
            headers.insert("x-attempt", attempt.into());
            if let Some(challenge) = challenge {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
            if status.is_redirection() {
                headers.insert(header::LOCATION, HeaderValue::from_static(FOREIGN));
            }
            Ok(response)
        })
    }
}

/// What the body of a request says.
pub(crate) fn content(id: u64) -> String {
    format!("the body of request {id}, ").repeat(3)
}

pub(crate) const HOST: &str = "api.example";
pub(crate) const ORIGIN: &str = "https://api.example";
pub(crate) const FOREIGN: &str = "https://evil.example/";
/// The longest times in seconds.
pub(crate) const LONGEST_BUSY: f64 = 5.0;
pub(crate) const LONGEST_ANSWER: f64 = 10.0;
const INVALID_TOKEN: &str = r#"Bearer realm="r", error="invalid_token""#;
const INSUFFICIENT: &str = r#"Bearer error="insufficient_scope", scope="more""#;
