//! What both sides saw, and whether it is what was promised.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;
use tower_oauth::{BoxError, Error, observe::Event};

use crate::faults::Does;

/// Everything that is kept of requests and tokens. Its size does not grow while it is used.
pub(crate) struct Ledger {
    start: Instant,
    requests: Box<[Request]>,
    /// By the token's epoch.
    tokens: Box<[Token]>,
    /// The epochs of tokens, by the number in their text.
    epochs: Box<[AtomicU32]>,
    rejections: Mutex<Vec<u64>>,
    outcomes: Mutex<BTreeMap<String, usize>>,
    violations: Mutex<Vec<String>>,
    slowest: AtomicU64,
}

#[derive(Default)]
struct Request {
    /// From when on, in microseconds, a token may have been chosen for it.
    since: AtomicU64,
    /// How often it left the layer, and how often it arrived.
    sent: AtomicU8,
    arrived: AtomicU8,
    /// The epoch of its last token.
    epoch: AtomicU32,
    /// What the API did with it last.
    does: AtomicU8,
}

/// A token, as the client knows it.
#[derive(Default)]
struct Token {
    /// When it expires, in microseconds; 0 if that is not known yet.
    expires: AtomicU64,
    /// When it was taken out of service because a server refused it; 0 if it was not.
    rejected: AtomicU64,
    carried: AtomicU64,
    refused: AtomicU64,
}

impl Ledger {
    pub(crate) fn new(requests: usize, tokens: usize) -> Self {
        fn many<T: Default>(count: usize) -> Box<[T]> {
            std::iter::repeat_with(T::default).take(count).collect()
        }
        Self {
            // Nothing happens at 0, which means that it is not known.
            start: Instant::now() - Duration::from_secs(1),
            requests: many(requests),
            tokens: many(tokens),
            epochs: many(4 * tokens),
            rejections: Mutex::default(),
            outcomes: Mutex::default(),
            violations: Mutex::default(),
            slowest: AtomicU64::new(0),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        micros(self.start.elapsed())
    }

    /// A token was obtained, and will have this epoch.
    pub(crate) fn obtained(&self, token: &str, epoch: usize) {
        self.epochs[number_in(token)].store(u32::try_from(epoch).unwrap(), Relaxed);
    }

    /// The handle tells what happened.
    pub(crate) fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Obtained { epoch, expires_in, .. } => {
                self.token(*epoch).expires.store(self.now() + micros(*expires_in), Relaxed);
            }
            Event::Rejected { epoch } => {
                let now = self.now();
                self.token(*epoch).rejected.store(now, Relaxed);
                lock(&self.rejections).push(now);
            }
            _ => {}
        }
    }

    /// A request is about to be given to the layer, or its first answer has just arrived.
    pub(crate) fn may_choose_token(&self, number: usize) {
        self.requests[number].since.store(self.now(), Relaxed);
    }

    /// A request left the layer with this token.
    pub(crate) fn sent(&self, number: usize, token: Option<&str>) {
        let Some(token) = token else {
            return self.violation(format!("request {number} left without a token"));
        };
        let request = &self.requests[number];
        let epoch = self.epochs[number_in(token)].load(Relaxed);
        let before = request.epoch.swap(epoch, Relaxed);
        let times = 1 + request.sent.fetch_add(1, Relaxed);
        // A refusal without a reason does not end a token that is young, but if there is a newer one
        // by then, that is tried.
        let refused = [Does::RefuseToken, Does::RefuseBare].contains(&self.does(number));
        if times > 2 || (times == 2 && (!refused || epoch <= before)) {
            self.violation(format!(
                "request {number} was sent {times} times, with tokens {before} and {epoch}, after \
                 {:?}",
                self.does(number),
            ));
        }
        let epoch = u64::from(epoch);
        let token = self.token(epoch);
        let since = self.requests[number].since.load(Relaxed);
        let rejected = token.rejected.load(Relaxed);
        if rejected != 0 && rejected < since {
            let late = since - rejected;
            self.violation(format!("request {number}: {epoch} was rejected {late} µs before"));
        }
        let expires = token.expires.load(Relaxed);
        if expires != 0 && expires + COARSE < since {
            let late = since - expires;
            self.violation(format!("request {number}: {epoch} was expired for {late} µs"));
        }
    }

    /// A request arrived at the API with this token. Returns how often it had before.
    pub(crate) fn arrived(&self, number: usize, token: &str, is_active: bool) -> u8 {
        let token = self.token(u64::from(self.epochs[number_in(token)].load(Relaxed)));
        token.carried.fetch_add(1, Relaxed);
        token.refused.fetch_add(u64::from(!is_active), Relaxed);
        self.requests[number].arrived.fetch_add(1, Relaxed)
    }

    pub(crate) fn answers(&self, number: usize, does: Does) {
        self.requests[number].does.store(does as u8, Relaxed);
    }

    fn does(&self, number: usize) -> Does {
        Does::from_code(self.requests[number].does.load(Relaxed))
    }

    /// A request has ended, in time.
    pub(crate) fn ended(&self, number: usize, took: Duration, outcome: &Result<u16, BoxError>) {
        self.slowest.fetch_max(micros(took), Relaxed);
        let Request { sent, arrived, .. } = &self.requests[number];
        let (sent, arrived) = (sent.load(Relaxed), arrived.load(Relaxed));
        let does = self.does(number);
        let again = if arrived > 1 { ", sent again" } else { "" };
        let (name, is_right) = match outcome {
            // If the connection breaks while it is sent again, the refusal is the answer.
            Ok(401) if arrived > 1 => {
                (format!("401{again}"), does == Does::Reset || does.status() == Some(401))
            }
            Ok(status) => (format!("{status}{again}"), does.status() == Some(*status)),
            Err(error) => match Error::find(&**error) {
                // Without a token nothing leaves; a refusal whose replay found none has left once.
                Some(error) => (
                    format!("{} error{again}", error.kind()),
                    arrived == 0 || does.status() == Some(401),
                ),
                None => (format!("connection error{again}"), does == Does::Reset),
            },
        };
        if !is_right || sent != arrived {
            self.violation(format!(
                "request {number} ended as {name}; it was sent {sent} times, arrived {arrived} \
                 times, and the API did {does:?} last: {outcome:?}"
            ));
        }
        *lock(&self.outcomes).entry(name).or_default() += 1;
    }

    pub(crate) fn never_ended(&self, number: usize) {
        self.violation(format!("request {number} did not end"));
    }

    fn token(&self, epoch: u64) -> &Token {
        &self.tokens[usize::try_from(epoch).unwrap()]
    }

    pub(crate) fn violation(&self, what: String) {
        let mut violations = lock(&self.violations);
        if violations.len() < 20 {
            violations.push(what);
        }
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    /// How requests ended, and how many so.
    pub(crate) fn outcomes(&self) -> BTreeMap<String, usize> {
        lock(&self.outcomes).clone()
    }

    pub(crate) fn slowest(&self) -> Duration {
        Duration::from_micros(self.slowest.load(Relaxed))
    }

    /// When tokens were rejected.
    pub(crate) fn rejections(&self) -> Vec<u64> {
        lock(&self.rejections).clone()
    }

    /// How many requests each token was carried by, and how many of them were refused.
    pub(crate) fn carried(&self) -> Vec<(u64, u64)> {
        let tokens = self.tokens.iter().map(|t| (t.carried.load(Relaxed), t.refused.load(Relaxed)));
        tokens.filter(|(carried, _)| *carried > 0).collect()
    }
}

/// `at-17-…` has the number 17.
fn number_in(token: &str) -> usize {
    token.split('-').nth(1).unwrap().parse().unwrap()
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the clock that a request reads may be late.
const COARSE: u64 = 10_000;
