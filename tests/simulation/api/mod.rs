//! The protected API, and every other server that a request may reach.

mod challenge;
mod fate;
mod visit;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body;
use tokio::time::{Sleep, sleep};
use tower::Service;

use challenge::Refusal;
use fate::{Asked, Fate};
use visit::{Read, Reads, Visit};

use crate::{
    canary,
    issuer::Book,
    ledger::{Cause, Invariant, Says},
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

impl Api {
    pub(crate) fn new(world: &World, book: &Book) -> Self {
        Self { world: world.clone(), book: book.clone(), ready: false, busy: None }
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
    B::Error: Send,
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
        let asked = |good: bool| Asked {
            key,
            strict: parts.uri.path() == STRICT,
            good: serial.filter(|_| good),
            may_hang: parts.headers.contains_key("x-impatient"),
        };
        let (good, bad) = (asked(true), asked(false));
        let this = self.clone();
        let mut visit = Visit::new(self.world.fork(), id, attempt, body);
        Box::pin(async move {
            let (world, dice) = (&this.world, this.world.dice());
            let judged = || {
                let boot = world.now().boot;
                let is_good = serial.is_some_and(|serial| this.book.is_good(serial, boot));
                Fate::draw(world, if is_good { good } else { bad })
            };
            let late = !foreign && world.has(Trouble::ApiLate, key) && dice.chance(0.3);
            let at_last = late && dice.chance(0.5);
            if at_last {
                sleep(dice.seconds(20.0, LONGEST_LATE)).await;
            }
            let fate = match judged() {
                _ if foreign => Fate::Served,
                Fate::Served if late && dice.chance(0.5) => {
                    Fate::Refused(StatusCode::UNAUTHORIZED, challenge::INVALID_TOKEN)
                }
                fate => fate,
            };
            let much = match fate {
                Fate::Served => Reads::All,
                // One that refuses may do so from the header alone, or anywhere in the body.
                _ => dice.pick(&[Reads::Nothing, Reads::Frames(1 + dice.below(3)), Reads::All]),
            };
            let read = visit.read(much).await;
            let slow = world.has(Trouble::ApiSlow, key);
            sleep(dice.seconds(0.005, if slow { LONGEST_ANSWER } else { 0.3 })).await;
            if late && !at_last {
                sleep(dice.seconds(20.0, LONGEST_LATE)).await;
            }
            let torn = read == Read::Torn;
            let (status, refusal) = match fate {
                // What it was to store is not there.
                Fate::Served if torn => return Err(visit.breaks()),
                Fate::Refused(..) if torn && dice.chance(0.5) => return Err(visit.breaks()),
                Fate::Served => (StatusCode::OK, SILENT),
                Fate::Refused(status, refusal) => (status, refusal),
                Fate::Redirected => (StatusCode::TEMPORARY_REDIRECT, SILENT),
                Fate::Broken => return Err(visit.breaks()),
                Fate::Hangs => std::future::pending().await,
            };
            if read == Read::Part && dice.chance(0.5) {
                // As over a connection that is not told to stop.
                tokio::spawn(async move { visit.read(Reads::All).await });
            }
            if status == StatusCode::FORBIDDEN && !refusal.lines.is_empty() {
                world.ledger().credit(key, Cause::StepUp);
            }
            let says = match status {
                StatusCode::UNAUTHORIZED => refusal.says,
                _ => Says::Nothing,
            };
            world.ledger().answered(id, attempt, status.as_u16(), says);
            let mut response = Response::new(());
            *response.status_mut() = status;
            let headers = response.headers_mut();
            headers.insert("x-attempt", attempt.into());
            for line in refusal.lines {
                headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(line));
            }
            if status.is_redirection() {
                headers.insert(header::LOCATION, HeaderValue::from_static(FOREIGN));
            }
            Ok(response)
        })
    }
}

const SILENT: Refusal = Refusal { lines: &[], says: Says::Nothing };
pub(crate) const HOST: &str = "api.example";
pub(crate) const ORIGIN: &str = "https://api.example";
/// Where the API may refuse every token.
pub(crate) const STRICT: &str = "/strict";
pub(crate) const FOREIGN: &str = "https://evil.example/";
/// The longest times in seconds.
const LONGEST_BUSY: f64 = 5.0;
const LONGEST_ANSWER: f64 = 10.0;
const LONGEST_LATE: f64 = 240.0;
