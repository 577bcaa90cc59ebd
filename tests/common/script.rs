//! A token source that does what a test tells it, and counts.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use tower_oauth::{Error, ErrorKind, FetchContext, TokenSet, TokenSource};

/// What one fetch does.
#[derive(Clone)]
pub enum Step {
    /// Gives a token of this lifetime.
    Token(Duration),
    /// Gives the last token again, for this lifetime.
    Again(Duration),
    /// Gives a token without a lifetime.
    TokenWithoutLifetime,
    /// Fails with this error.
    Fail(Error),
    /// Takes this long, then goes on with the next step.
    Take(Duration, Box<Step>),
    /// Never ends.
    Hang,
    /// Panics.
    Panic,
}

/// Hands out `token-1`, `token-2` and so on. Clones are the same source.
#[derive(Clone)]
pub struct Script(Arc<Mutex<State>>);

struct State {
    steps: VecDeque<Step>,
    otherwise: Step,
    fetches: Vec<(Instant, FetchContext)>,
    issued: usize,
}

pub fn fail(kind: ErrorKind) -> Step {
    Step::Fail(Error::new(kind, "scripted failure"))
}

impl Script {
    /// Does this whenever nothing else was scripted.
    pub fn new(otherwise: Step) -> Self {
        let state = State { steps: VecDeque::new(), otherwise, fetches: Vec::new(), issued: 0 };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Gives tokens of this lifetime.
    pub fn tokens(lifetime: Duration) -> Self {
        Self::new(Step::Token(lifetime))
    }

    /// Does these steps first.
    pub fn then(&self, steps: impl IntoIterator<Item = Step>) -> &Self {
        self.0.lock().unwrap().steps.extend(steps);
        self
    }

    /// Does this from now on, whenever nothing else was scripted.
    pub fn otherwise(&self, step: Step) {
        self.0.lock().unwrap().otherwise = step;
    }

    /// How many fetches have started.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().fetches.len()
    }

    /// When they started.
    pub fn times(&self) -> Vec<Instant> {
        self.0.lock().unwrap().fetches.iter().map(|(at, _)| *at).collect()
    }

    /// What the last one was told.
    pub fn last(&self) -> FetchContext {
        self.0.lock().unwrap().fetches.last().expect("there was a fetch").1.clone()
    }

    fn begin(&self, cx: FetchContext) -> Step {
        let mut state = self.0.lock().unwrap();
        state.fetches.push((Instant::now(), cx));
        let otherwise = state.otherwise.clone();
        state.steps.pop_front().unwrap_or(otherwise)
    }

    fn issue(&self) -> Result<TokenSet, Error> {
        self.0.lock().unwrap().issued += 1;
        self.again()
    }

    fn again(&self) -> Result<TokenSet, Error> {
        TokenSet::bearer(format!("token-{}", self.0.lock().unwrap().issued))
    }
}

impl TokenSource for Script {
    fn fetch(&self, cx: FetchContext) -> impl Future<Output = Result<TokenSet, Error>> + Send {
        let this = self.clone();
        let mut step = self.begin(cx);
        async move {
            loop {
                match step {
                    Step::Token(lifetime) => return Ok(this.issue()?.with_lifetime(lifetime)),
                    Step::Again(lifetime) => return Ok(this.again()?.with_lifetime(lifetime)),
                    Step::TokenWithoutLifetime => return this.issue(),
                    Step::Fail(error) => return Err(error),
                    Step::Take(time, next) => {
                        tokio::time::sleep(time).await;
                        step = *next;
                    }
                    Step::Hang => std::future::pending().await,
                    Step::Panic => panic!("scripted panic"),
                }
            }
        }
    }
}
