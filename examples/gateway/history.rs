//! The last lifetimes of a token, as they are told.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tower_oauth::observe::{Event, FetchReason};

#[derive(Default)]
pub struct History {
    pub replayed: AtomicU64,
    recent: Mutex<Recent>,
}

#[derive(Default, Clone)]
pub struct Recent {
    pub lives: VecDeque<Life>,
    pub failures: VecDeque<Failure>,
    /// What happened, the newest first.
    pub lines: VecDeque<Line>,
    pub last_error: Option<Failure>,
}

/// One token's life.
#[derive(Clone)]
pub struct Life {
    pub epoch: u64,
    pub obtained: Instant,
    pub expires: Instant,
    pub end: Option<(Instant, End)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Renewed,
    Rejected,
    Expired,
}

/// A fetch that failed.
#[derive(Clone)]
pub struct Failure {
    pub at: Instant,
    pub text: String,
}

#[derive(Clone)]
pub struct Line {
    pub at: Instant,
    pub kind: Kind,
    pub text: String,
    /// Of an attempt that failed: why, and how many have before it for the same reason.
    failed: Option<(String, u32)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Good,
    Notice,
    Bad,
}

impl History {
    pub fn note(&self, event: &Event<'_>) {
        let now = Instant::now();
        let mut recent = self.lock();
        match *event {
            Event::Obtained { epoch, reason, expires_in, .. } => {
                let left = recent.end(now, End::Renewed);
                let text = match (reason, left) {
                    (FetchReason::Initial, _) => format!("token {epoch} obtained"),
                    (FetchReason::Due, Some(left)) => {
                        format!("token {epoch} renewed, {} before the end", seconds(left))
                    }
                    (FetchReason::Rejected, _) => {
                        format!("token {epoch} obtained, in place of the refused one")
                    }
                    (FetchReason::Expired, _) => {
                        format!("token {epoch} obtained, after a time without one")
                    }
                    _ => format!("token {epoch} obtained ({reason})"),
                };
                recent.say(now, Kind::Good, text);
                let expires = now + expires_in;
                push(&mut recent.lives, Life { epoch, obtained: now, expires, end: None }, LIVES);
            }
            Event::Failed { error, retry_in, holds_token, .. } => {
                let short = error.to_string();
                let mut text = short.clone();
                let mut source = std::error::Error::source(error);
                while let Some(error) = source {
                    text = format!("{text}: {error}");
                    source = error.source();
                }
                let served = if holds_token { "the current token serves" } else { "no token" };
                let again = format!("{served}; again in {}", seconds(retry_in));
                recent.say_failed(now, &short, &again);
                let failure = Failure { at: now, text };
                recent.last_error = Some(failure.clone());
                push(&mut recent.failures, failure, FAILURES);
            }
            Event::Rejected { epoch } => {
                recent.end(now, End::Rejected);
                recent.say(now, Kind::Notice, format!("token {epoch} refused by the API"));
            }
            Event::Expired { epoch } => {
                recent.end(now, End::Expired);
                recent.say(now, Kind::Bad, format!("token {epoch} expired, none to follow it"));
            }
            Event::Replayed { .. } => {
                self.replayed.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// A copy to draw.
    pub fn recent(&self) -> Recent {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    /// Ends the current life. Returns what was left of it.
    fn end(&mut self, now: Instant, end: End) -> Option<Duration> {
        let life = self.lives.back_mut().filter(|life| life.end.is_none())?;
        life.end = Some((now, end));
        Some(life.expires.saturating_duration_since(now))
    }

    fn say(&mut self, at: Instant, kind: Kind, text: String) {
        self.lines.push_front(Line { at, kind, text, failed: None });
        self.lines.truncate(LINES);
    }

    /// A row of attempts that fail for one reason is one line.
    fn say_failed(&mut self, at: Instant, why: &str, again: &str) {
        let before = self.lines.front().and_then(|line| line.failed.clone());
        let count = match before.filter(|(before, _)| before == why) {
            Some((_, count)) => {
                self.lines.pop_front();
                count + 1
            }
            None => 1,
        };
        let times = if count > 1 { &format!(" {count} times") } else { "" };
        self.say(at, Kind::Bad, format!("failed{times}: {why}; {again}"));
        if let Some(line) = self.lines.front_mut() {
            line.failed = Some((why.to_owned(), count));
        }
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// A span of time as a person says it.
pub fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

const LIVES: usize = 12;
const FAILURES: usize = 200;
const LINES: usize = 30;
