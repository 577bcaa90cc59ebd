//! The source of tokens, with a record of every fetch.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tower_oauth::{ClientCredentials, Error, FetchContext, TokenSet, TokenSource};

use crate::ledger::Ledger;

/// A source that counts and checks what the refresher does.
#[derive(Clone)]
pub(crate) struct Recording {
    source: Arc<ClientCredentials>,
    ledger: Arc<Ledger>,
    fetches: Arc<Mutex<Vec<Fetch>>>,
    succeeded: Arc<AtomicUsize>,
}

#[derive(Clone)]
pub(crate) struct Fetch {
    pub(crate) started: u64,
    pub(crate) ended: u64,
    pub(crate) outcome: Result<(), Error>,
    /// How long the server asked to wait.
    asked: Option<Duration>,
}

impl Recording {
    pub(crate) fn new(source: ClientCredentials, ledger: Arc<Ledger>) -> Self {
        // Room for all, so that the record does not grow.
        let fetches = Arc::new(Mutex::new(Vec::with_capacity(4096)));
        Self { source: Arc::new(source), ledger, fetches, succeeded: Arc::default() }
    }

    pub(crate) fn fetches(&self) -> Vec<Fetch> {
        self.fetches.lock().unwrap().clone()
    }

    /// Checks that nothing was fetched before its time.
    pub(crate) fn check(&self) {
        let (fetches, rejections) = (self.fetches(), self.ledger.rejections());
        let mut served_until = 0;
        for (number, pair) in fetches.windows(2).enumerate() {
            let [before, after] = pair else { unreachable!() };
            if before.outcome.is_ok() {
                // The request was sent a little later than the fetch began.
                served_until = before.started + 800_000;
            }
            let earliest = match &before.outcome {
                Ok(())
                    if rejections.iter().any(|at| (before.ended..after.started).contains(at)) =>
                {
                    0
                }
                // A token of a second is served for three quarters of it, and renewed an eighth before,
                // or a tenth of that earlier.
                Ok(()) => before.started + 562_500,
                // While there is a token, it is tried again before that expires.
                Err(_) if before.ended < served_until => before.ended + 50_000,
                Err(_) => {
                    let asked = before.asked.map_or(0, |asked| asked.as_micros());
                    before.ended + u64::try_from(asked).unwrap().max(100_000)
                }
            };
            if after.started + TOLERANCE < earliest {
                let early = earliest - after.started;
                let outcome = &before.outcome;
                self.ledger.violation(format!(
                    "fetch {number} ended as {outcome:?}, and the next came {early} µs too early"
                ));
            }
            if after.started < before.ended {
                self.ledger.violation(format!("fetch {number} and the next overlap"));
            }
        }
    }
}

impl TokenSource for Recording {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        let started = self.ledger.now();
        let outcome = self.source.fetch(cx).await;
        if let Ok(token) = &outcome {
            let epoch = 1 + self.succeeded.fetch_add(1, Ordering::Relaxed);
            self.ledger.obtained(token.access_token().expose(), epoch);
        }
        let error = outcome.as_ref().err();
        let asked = error.and_then(Error::retry_at).map(|at| at - Instant::now());
        let ended = self.ledger.now();
        let result = outcome.as_ref().map(drop).map_err(Clone::clone);
        self.fetches.lock().unwrap().push(Fetch { started, ended, outcome: result, asked });
        outcome
    }
}

/// Between the clocks of the refresher and the ones that are read here.
const TOLERANCE: u64 = 5_000;
