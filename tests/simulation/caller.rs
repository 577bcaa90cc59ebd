//! Callers: what they send, how patient they are, and what they make of the answer.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    task::Poll,
    time::Duration,
};

use http::{Request, Response, Uri};
use tokio::time::timeout;
use tower::{BoxError, Service, ServiceExt, util::BoxCloneSyncService};
use tower_oauth::Error;

use crate::{
    api::{self, ApiError, ORIGIN, STRICT},
    canary,
    ledger::{Invariant, Key, NUMBERS, Outcome, Terms},
    upload::{Torn, Upload},
    world::World,
};

pub(crate) type Client = BoxCloneSyncService<Request<Upload>, Response<()>, BoxError>;

/// Whom a request goes through.
pub(crate) struct Caller {
    pub(crate) world: World,
    pub(crate) client: Client,
    pub(crate) instance: usize,
    pub(crate) key: Key,
    /// How often the layer may send a request.
    pub(crate) sends: usize,
    /// The layer records bodies while they are sent.
    pub(crate) streams: bool,
    /// How long it waits for a token.
    pub(crate) wait: Duration,
    /// The number of the next request.
    pub(crate) number: AtomicU64,
}

/// How patient a caller is.
#[derive(Debug, Clone, Copy)]
enum Patience {
    Endless,
    For(Duration),
    /// It drops the future when it was polled so often.
    Polls(u32),
}

impl Caller {
    /// The same for one request, which has a number and dice of its own.
    pub(crate) fn next(&self) -> Self {
        self.number.fetch_add(2, Ordering::Relaxed);
        let number = AtomicU64::new(self.number.load(Ordering::Relaxed));
        Self { world: self.world.fork(), client: self.client.clone(), number, ..*self }
    }

    /// Sends one request; returns its status, if it has one.
    pub(crate) async fn request(&self) -> Option<u16> {
        let dice = self.world.dice();
        let patience = match dice.below(10) {
            _ if self.world.is_calm() => Patience::Endless,
            0 => Patience::Polls(1 + u32::try_from(dice.below(6)).unwrap_or(0)),
            1 | 2 => Patience::For(dice.seconds(0.01, 30.0)),
            _ => Patience::Endless,
        };
        let foreign = self.world.befalls(0.03);
        let uri = match foreign {
            true => api::FOREIGN.to_owned(),
            false if self.world.befalls(0.3) => format!("{ORIGIN}{STRICT}"),
            false => ORIGIN.to_owned(),
        };
        let (status, location) = self.send(uri.parse().unwrap(), foreign, patience).await?;
        if let Some(location) = location {
            // As a redirect follower above the layer does.
            self.send(location, true, Patience::Endless).await;
        }
        Some(status)
    }

    async fn send(
        &self,
        uri: Uri,
        foreign: bool,
        patience: Patience,
    ) -> Option<(u16, Option<Uri>)> {
        let id = self.instance as u64 * NUMBERS + self.number.fetch_add(1, Ordering::Relaxed);
        let mut request = Request::post(uri)
            .header("x-request", id)
            .header("x-key", self.key)
            .body(Upload::draw(&self.world.fork(), id))
            .unwrap();
        if let Patience::For(_) = patience {
            request.headers_mut().insert("x-impatient", 1.into());
        }
        let terms = Terms {
            patience: match patience {
                Patience::For(time) => Some(time),
                Patience::Endless | Patience::Polls(_) => None,
            },
            wait: self.wait,
            foreign,
            sends: if foreign { 1 } else { self.sends },
            streams: self.streams,
        };
        self.world.ledger().started(id, self.instance, terms);
        let mut client = self.client.clone();
        let exchange = async move {
            client.ready().await?;
            self.world.ledger().called(id);
            client.call(request).await
        };
        let outcome = match patience {
            Patience::Endless => Some(exchange.await),
            Patience::For(time) => timeout(time, exchange).await.ok(),
            Patience::Polls(polls) => polled(exchange, polls).await,
        };
        let (outcome, answer) = match outcome {
            None => (Outcome::Dropped, None),
            Some(Ok(response)) => {
                let attempt = response.headers().get("x-attempt");
                let attempt = attempt.and_then(|text| text.to_str().ok()?.parse().ok());
                let status = response.status().as_u16();
                let location = response.headers().get(http::header::LOCATION);
                let location = location.and_then(|uri| uri.to_str().ok()?.parse().ok());
                let outcome =
                    attempt.map_or(Outcome::Unknown, |attempt| Outcome::Answer { attempt, status });
                (outcome, Some((status, location)))
            }
            Some(Err(error)) => (self.judge(id, &error), None),
        };
        self.world.ledger().ended(id, outcome);
        answer
    }

    fn judge(&self, id: u64, error: &BoxError) -> Outcome {
        let mut text = format!("{error} {error:?}");
        let mut next = error.source();
        let mut torn = false;
        while let Some(cause) = next {
            torn |= cause.is::<Torn>();
            text = format!("{text} {cause} {cause:?}");
            next = cause.source();
        }
        self.world.require(Invariant::I4, canary::find(&text).is_none(), || {
            format!("the error of request {id} shows a secret: {text}")
        });
        if let Some(ours) = error.downcast_ref::<Error>() {
            return Outcome::Ours(ours.kind().as_str());
        }
        match error.downcast_ref::<ApiError>() {
            Some(ApiError(attempt)) => Outcome::Below(*attempt),
            None if torn => Outcome::Body,
            None => Outcome::Unknown,
        }
    }
}

/// Polls a future so often, and then drops it.
async fn polled<F: Future>(future: F, polls: u32) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| match left.checked_sub(1) {
        Some(fewer) => {
            left = fewer;
            future.as_mut().poll(cx).map(Some)
        }
        None => Poll::Ready(None),
    })
    .await
}
