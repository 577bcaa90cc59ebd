//! What the ledger keeps.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tower_oauth::observe::FetchReason;

use super::refusals::Refusals;

/// Whose credentials: no two share a token.
pub(crate) type Key = usize;
/// The number of a token.
pub(crate) type Serial = usize;

/// What the clocks say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// Tokio's time since the start: it stands still while the machine sleeps.
    pub(crate) at: Duration,
    /// Boot time since the start, which is the time of the world.
    pub(crate) boot: Duration,
}

/// A request of a caller, until it ends.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) instance: usize,
    /// When its caller loses patience.
    pub(crate) deadline: Option<Duration>,
    /// How long it may wait for tokens and for the service below, in all.
    pub(crate) wait: Duration,
    pub(crate) foreign: bool,
    pub(crate) most_sends: usize,
    /// Its body is a stream, of which there is one.
    pub(crate) streams: bool,
    /// When the layer got it; before that, the service became ready.
    pub(crate) called: Option<Duration>,
    pub(crate) sends: Vec<Sent>,
    /// The token that was good then.
    pub(crate) held: Option<Serial>,
    /// The caller's body has failed.
    pub(crate) body_failed: bool,
    /// The epoch that the answer to the first attempt must end.
    pub(crate) ends: Option<u64>,
}

/// One time that it was sent.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) serial: Option<Serial>,
    /// Under which its holder knew it then.
    pub(crate) epoch: Option<u64>,
    pub(crate) at: Duration,
    pub(crate) answered: Option<Duration>,
    /// The status of the answer; 0: the connection broke.
    pub(crate) status: u16,
    /// The API has read its body to the end.
    pub(crate) taken: bool,
}

/// What an answer says of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    Nothing,
    /// It is refused, without a reason.
    Doubts,
    /// It is refused: `invalid_token`.
    Refuses,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With the answer to this attempt, counted from 0.
    Answer { attempt: usize, status: u16 },
    /// With an error of the crate; the text is its kind.
    Ours(&'static str),
    /// With the error of the service below, at this attempt or before one.
    Below(Option<usize>),
    /// With the error of its body.
    Body,
    /// With an error that nobody knows.
    Unknown,
    /// The caller lost interest.
    Dropped,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
/// One holder of a current token: a handle, or a tenant of a pool.
#[derive(Debug, Default)]
pub(crate) struct Instance {
    pub(crate) key: Key,
    /// Its tokens are in a store that others read as well.
    pub(crate) persisted: bool,
    /// It is a tenant, which a pool forgets when it is idle.
    pub(crate) pooled: bool,
    pub(crate) gone: bool,
    /// Its handle was dropped; requests under way may still hold it.
    pub(crate) left: bool,
    pub(crate) held: Option<Held>,
    pub(crate) fetched: Option<Held>,
    pub(crate) fetching: Option<Fetching>,
    pub(crate) epochs: BTreeMap<Serial, u64>,
    pub(crate) invalid_up_to: u64,
    /// The tokens that it has rejected, under whatever epoch.
    pub(crate) rejected: BTreeSet<Serial>,
    /// The epochs that an API refused, or that a test rejected.
    pub(crate) refused: BTreeSet<u64>,
    pub(crate) refusals_seen: Refusals,
    /// Since when (by Tokio's time) it has had each epoch.
    pub(crate) since: BTreeMap<u64, Duration>,
    pub(crate) last_start: Option<Duration>,
    /// How long after that the next fetch may start.
    pub(crate) pace: Option<Duration>,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) refusals: u32,
    pub(crate) slow_until: Option<Duration>,
    /// Until when the server asked for no requests: it counts without a token. With one, as much of it
    /// as half of what is left of the token.
    pub(crate) told_until: Option<Duration>,
    pub(crate) told_until_with_token: Option<Duration>,
    /// When the last fetch has failed.
    pub(crate) last_failure: Option<Times>,
    /// `refresh()` was called since the last fetch began.
    pub(crate) requested: bool,
    pub(crate) last_use: Duration,
    /// A pool was told to forget it, and it has had no token since.
    pub(crate) removed: bool,
    /// Since when it should serve again.
    pub(crate) recovers_from: Duration,
}

/// A token as its holder sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) serial: Serial,
    pub(crate) epoch: u64,
    /// Boot time when it was asked for, or taken from the store; and how old it was then, if nobody
    /// knows its lifetime.
    pub(crate) asked: Duration,
    pub(crate) age: Duration,
    /// Tokio's time when it came.
    pub(crate) came: Duration,
    pub(crate) lifetime: Duration,
    pub(crate) refresh_in: Option<Duration>,
    /// The wall clock was moved since: less is known.
    pub(crate) jumped: bool,
    /// A fetch has failed since: the next one may come at any time.
    pub(crate) failed: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Fetching {
    pub(crate) started: Times,
    pub(crate) reason: FetchReason,
    pub(crate) deadline: Duration,
    /// The wall clock was set meanwhile.
    pub(crate) jumped: bool,
    /// How many token requests it has sent.
    pub(crate) requests: u32,
}

/// What is known of the token requests of a key.
#[derive(Debug, Default)]
pub(crate) struct KeyFacts {
    /// Its processes share their tokens.
    pub(crate) persisted: bool,
    /// The last token that arrived, and from when on it may be renewed.
    pub(crate) last: Option<Serial>,
    pub(crate) due: Duration,
    /// What allows an issue before the last token is due.
    pub(crate) credits: Vec<(Duration, Cause)>,
    pub(crate) rejected: BTreeSet<Serial>,
    pub(crate) ended: bool,
}

/// Why a token may be asked for before the last one is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Rejected,
    /// A refresh that was asked for failed: it is made up for later.
    Unrefreshed,
    WallJump,
    Started,
    /// A handle that was dropped, and that a request still holds, renewed its own token.
    Left,
    Crashed,
    StoreTrouble,
    StepUp,
    Slept,
}

/// An access token that was issued.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) key: Key,
    pub(crate) issued: Duration,
    /// How long the API takes it.
    pub(crate) lifetime: Duration,
    pub(crate) revoked: bool,
    /// When the request for it arrived, whether that was before the last one was due, and from when
    /// on it may be renewed.
    pub(crate) arrived: Duration,
    pub(crate) early: bool,
    pub(crate) due: Duration,
    /// How far the wall clock was set back since: who reads the token from a store cannot know.
    pub(crate) set_back: Duration,
    /// The machine slept since: a timer may be late.
    pub(crate) slept: bool,
}

/// A refresh token that was spent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) key: Key,
    pub(crate) successor: usize,
    /// The answer was lost, or the process that had it: nobody could know the successor.
    pub(crate) lost: bool,
}
