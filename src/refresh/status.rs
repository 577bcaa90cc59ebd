use tokio::time::Instant;

use super::plan::HEARTBEAT;
use crate::error::{Error, ErrorKind};

/// Where a token is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// There has been no token yet. Requests wait.
    Empty,
    /// There is a good token.
    Fresh,
    /// There is a good token, and it should be renewed.
    Due,
    /// The last token expired before there was another one. Requests wait.
    Expired,
    /// The last token was refused. Requests wait.
    Rejected,
    /// There is no token, and the last attempt failed with an error that needs an operator. Requests
    /// fail at once.
    Failed,
    /// The refresher has ended. Requests fail at once.
    Stopped,
}

/// The state of a token and of its renewal.
#[derive(Debug, Clone)]
pub struct Status {
    pub(crate) state: State,
    pub(crate) epoch: u64,
    pub(crate) obtained_at: Option<Instant>,
    pub(crate) expires_at: Option<Instant>,
    pub(crate) next_attempt: Option<Instant>,
    pub(crate) fetching: bool,
    pub(crate) failures: u32,
    pub(crate) error: Option<Error>,
    /// How many fetches were started, and how many have ended.
    pub(crate) started: u64,
    pub(crate) finished: u64,
    /// Whether a fetch is about to start, because a server has refused the token.
    pub(crate) replacing: bool,
    /// When the refresher last looked at what there is to do.
    pub(crate) looked: Option<Instant>,
    /// Whether the refresher has ended, after a fetch that was under way.
    pub(crate) ended: bool,
}

impl Status {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Empty,
            epoch: 0,
            obtained_at: None,
            expires_at: None,
            next_attempt: None,
            fetching: false,
            failures: 0,
            error: None,
            started: 0,
            finished: 0,
            replacing: false,
            looked: None,
            ended: false,
        }
    }

    /// Where the token is in its life.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether there is a token that requests can use: with it, a request that starts now does not
    /// wait.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Fresh | State::Due)
    }

    /// The number of the last token, counted from 1; 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// When the last token was obtained.
    pub fn obtained_at(&self) -> Option<Instant> {
        self.obtained_at
    }

    /// When the last token expires or did, less the time that a request may be under way.
    pub fn expires_at(&self) -> Option<Instant> {
        self.expires_at
    }

    /// Whether the refresher runs. It looks at the clocks every 30 s at least; if it has not done so
    /// for a minute, its runtime is not polled, or starves, and no token is obtained or renewed.
    /// Before its first look, and after its end, it does not run.
    pub fn is_running(&self) -> bool {
        let looked = |at: Instant| at.elapsed() < HEARTBEAT * 2;
        self.state != State::Stopped && self.looked.is_some_and(looked)
    }

    /// When the next attempt is made, unless one is under way. A call of
    /// [`refresh()`](crate::TokenHandle::refresh), a refused token and a step-up may bring it forward.
    pub fn next_attempt(&self) -> Option<Instant> {
        self.next_attempt
    }

    /// Whether a token is being fetched.
    pub fn is_fetching(&self) -> bool {
        self.fetching
    }

    /// How many attempts have failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Why the last attempt failed; `None` after a success.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// The token is gone. What kept another one from being had may be there already.
    pub(crate) fn lose_token(&mut self, state: State) {
        let hopeless = self.error.as_ref().is_some_and(Error::fails_at_once);
        self.state = if hopeless { State::Failed } else { state };
    }

    /// Whether the grant has ended: only a new one can help, and no attempt before there is one.
    pub(crate) fn grant_has_ended(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.kind() == ErrorKind::InvalidGrant)
    }

    /// Corrects what a moment ago was true of the token in service: `good` says whether there is
    /// one now.
    pub(crate) fn correct(&mut self, good: bool) {
        match self.state {
            State::Fresh | State::Due if !good => self.lose_token(State::Expired),
            State::Empty | State::Expired | State::Rejected | State::Failed if good => {
                self.state = State::Fresh;
            }
            _ => {}
        }
    }

    /// The error that a request without a token gets at once, if it should not wait until
    /// `deadline`.
    pub(crate) fn refusal(&self, deadline: Instant) -> Option<&Error> {
        let error = self.error.as_ref()?;
        if self.state == State::Stopped {
            return Some(error);
        }
        // A failure that may pass is waited out, up to the caller's own bound, unless the
        // authorization server has asked for a longer time without requests.
        let too_late = error.retry_at().is_some_and(|at| at > deadline);
        let hopeless = too_late || (error.fails_at_once() && !self.replacing);
        (hopeless && !self.fetching).then_some(error)
    }

    /// An error that ends a wait, with when the next attempt is made.
    pub(crate) fn with_next_attempt(&self, error: Error) -> Error {
        let at = self.next_attempt.filter(|at| *at > Instant::now());
        match at {
            Some(at) if error.retry_at().is_none_or(|asked| asked < at) => error.with_retry_at(at),
            _ => error,
        }
    }
}
