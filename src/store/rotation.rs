//! How a token is renewed without losing it: the protocol, as a pure state machine.
//!
//! A rotating refresh token is good for one use. Two processes that use the same one, or one that
//! forgets what it got for it, lose the session. So a renewal goes
//!
//! 1. take the lock, and read the record again: somebody else may have renewed it;
//! 2. write `Intent`: from here on, the refresh token may have been spent;
//! 3. send it;
//! 4. write the new tokens, with the next generation, if the stored generation is still the same;
//! 5. only then use them, and give the lock back.
//!
//! Whoever finds `Intent` under the lock finds a renewal that broke off, and sends the same refresh
//! token again at once: servers take a spent one for some seconds, for answers that were lost. A
//! result that comes late is judged by its generation, not by whether the lock is still held: its
//! refresh token may be the only one that lives.
//!
//! The machine says what to do ([`Do`]) and is told what came of it ([`Heard`]). It knows no clock
//! and no I/O; `explorer` tries all that can happen.

use super::record::RecordState;

/// A record, as far as the protocol goes. An absent one has generation 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Entry<T> {
    pub(super) generation: u64,
    pub(super) state: RecordState,
    pub(super) tokens: Option<T>,
}

/// What a process remembers from one renewal to the next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Memory<T> {
    /// The newest tokens that this process has seen.
    pub(super) known: Entry<T>,
    /// Whether they are here alone: they could not be stored.
    pub(super) unsaved: bool,
    /// Tokens that lost against ones that another process stored. They are kept until the others
    /// have worked.
    pub(super) aside: Option<T>,
}

/// What kind of renewal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Rules {
    /// Whether a refresh token is spent.
    pub(super) rotates: bool,
    /// Whether it may be spent even if the store does not answer.
    pub(super) without_store: bool,
    /// Whether a refresh token that was refused is tried once more.
    pub(super) retry_dead: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Do<T> {
    /// Take the lock, unless it is held already, and read the record.
    Acquire,
    /// Read the record again.
    Read,
    /// Write this record, if the stored generation is `expected`.
    Save { expected: u64, entry: Entry<T> },
    /// Send the refresh token of these tokens, or what the grant starts with.
    Send { tokens: Option<T>, again: bool },
    /// Nothing more: give the lock back.
    Finish(End),
    /// As [`Finish`](Self::Finish), but keep the lock: what the store has is spent.
    FinishLocked(End),
}

/// How a renewal ended. The tokens, if any, are in the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum End {
    /// Tokens that another process obtained are used.
    Adopted,
    /// New tokens were obtained and stored.
    Obtained,
    /// New tokens were obtained, but are in memory only.
    Unsaved,
    /// The exchange failed; it may be tried again.
    Failed,
    /// The store failed, or the lock was not to be had, and nothing was spent.
    NoStore,
    /// The grant has ended.
    Ended,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Heard<T> {
    /// This is stored.
    Found(Entry<T>),
    /// The store failed.
    Failed,
    /// Somebody else has the lock, and did not give it back in time.
    Busy,
    /// It is stored.
    Saved,
    /// It is not stored: the stored generation is another one.
    Conflict(Entry<T>),
    /// New tokens.
    Granted(T),
    /// A new refresh token in an answer whose access token was refused. What was sent is spent.
    Replaced(T),
    /// No answer: the refresh token may have been spent.
    Unknown,
    /// An answer that left the refresh token as it was.
    Refused,
    /// The refresh token was refused (`invalid_grant`).
    InvalidGrant,
    /// No tokens, and no use in asking again at once; the refresh token may have been spent. Or
    /// nothing was sent: too little was left of the lock's time.
    GaveUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Acquiring,
    Restoring,
    Intending,
    Sent,
    Rereading,
    Committing,
    Withdrawing,
    Burying,
}

/// One renewal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Rotation<T> {
    pub(super) memory: Memory<T>,
    rules: Rules,
    phase: Phase,
    /// The generation that was last seen in the store.
    stored: u64,
    /// What was sent last.
    sent: Option<T>,
    /// Whether one that gets no answer may be sent again.
    may_resend: bool,
    /// Whether the access token that came with the new refresh token was refused.
    without_access: bool,
    /// How often the store may still turn out to hold something else.
    surprises: u8,
}

impl<T> Default for Memory<T> {
    fn default() -> Self {
        let known = Entry { generation: 0, state: RecordState::Clean, tokens: None };
        Self { known, unsaved: false, aside: None }
    }
}

impl<T: PartialEq> Memory<T> {
    /// Whether a record may be used that was read without the lock.
    pub(super) fn may_adopt(&self, entry: &Entry<T>, rotates: bool) -> bool {
        entry.state == RecordState::Clean
            && entry.generation >= self.known.generation
            && !self.has_replaced(entry, rotates)
    }

    /// Whether a record is the one for which ours was obtained, and could not be stored.
    fn has_replaced(&self, entry: &Entry<T>, rotates: bool) -> bool {
        let known = &self.known;
        // Where refresh tokens rotate, ours would be of a generation of its own.
        !rotates
            && known.tokens.is_some()
            && known.generation == entry.generation
            && known.tokens != entry.tokens
    }
}

impl<T: Clone + PartialEq> Rotation<T> {
    /// Starts a renewal. The first thing to do is [`Do::Acquire`].
    pub(super) fn new(memory: Memory<T>, rules: Rules) -> Self {
        let stored = memory.known.generation;
        Self {
            memory,
            rules,
            phase: Phase::Acquiring,
            stored,
            sent: None,
            may_resend: false,
            without_access: false,
            surprises: MAX_SURPRISES,
        }
    }

    /// Says what to do, now that this was heard. `wanted` says whether tokens are good enough to
    /// be used instead of new ones.
    pub(super) fn next(&mut self, heard: Heard<T>, wanted: impl Fn(&T) -> bool) -> Do<T> {
        match (self.phase, heard) {
            (Phase::Acquiring, Heard::Found(entry)) => self.found(entry, wanted),
            // The lock is never broken: its holder may be about to store what it got.
            (Phase::Acquiring, Heard::Busy) if self.rules.rotates && !self.memory.unsaved => {
                Do::Finish(End::NoStore)
            }
            (Phase::Restoring, Heard::Saved) => {
                self.stored = self.memory.known.generation;
                self.memory.unsaved = false;
                self.proceed(wanted)
            }
            (Phase::Restoring | Phase::Intending, Heard::Conflict(entry)) => {
                self.surprised(entry, wanted)
            }
            (Phase::Intending, Heard::Saved) => self.send(),
            (Phase::Acquiring | Phase::Restoring | Phase::Intending, _) => {
                self.without_store(wanted)
            }
            (Phase::Sent, Heard::Granted(tokens)) => self.granted(tokens),
            (Phase::Sent, Heard::Replaced(tokens)) => {
                self.without_access = true;
                self.granted(tokens)
            }
            (Phase::Sent, Heard::Unknown) if self.may_resend && self.rules.rotates => {
                // Clean -> Intent was ours, so the answer was lost just now, within any grace.
                self.may_resend = false;
                Do::Send { tokens: self.sent.clone(), again: true }
            }
            (Phase::Sent, Heard::InvalidGrant) if self.rules.rotates => {
                self.phase = Phase::Rereading;
                Do::Read
            }
            (Phase::Sent, Heard::Refused) if self.rules.rotates && !self.memory.unsaved => {
                // Intent -> Clean: nothing was spent.
                self.memory.known.state = RecordState::Clean;
                self.save(Phase::Withdrawing)
            }
            (Phase::Sent, _) => self.finish(End::Failed),
            (Phase::Rereading, Heard::Found(entry)) => self.reread(entry, wanted),
            (Phase::Rereading, _) => self.finish(End::Ended),
            (Phase::Committing, Heard::Saved) => {
                self.memory.unsaved = false;
                Do::Finish(if self.without_access { End::Failed } else { End::Obtained })
            }
            (Phase::Committing, Heard::Conflict(entry)) => self.outrun(entry),
            (Phase::Committing, _) if self.without_access => Do::FinishLocked(End::Failed),
            (Phase::Committing, _) if self.rules.rotates => Do::FinishLocked(End::Unsaved),
            (Phase::Committing, _) => {
                // Nobody needs it: another one can be had at any time. So it is no generation, to
                // which what others store would have to give way.
                self.memory.unsaved = false;
                self.memory.known.generation = self.stored;
                Do::Finish(End::Unsaved)
            }
            (Phase::Withdrawing, _) => Do::Finish(End::Failed),
            (Phase::Burying, Heard::Conflict(entry)) if self.is_newer(&entry) => {
                self.surprised(entry, wanted)
            }
            (Phase::Burying, _) => Do::Finish(End::Ended),
        }
    }

    /// The record, under the lock.
    fn found(&mut self, entry: Entry<T>, wanted: impl Fn(&T) -> bool) -> Do<T> {
        self.stored = entry.generation;
        if self.memory.has_replaced(&entry, self.rules.rotates) {
            return self.proceed(wanted);
        }
        let known = &mut self.memory.known;
        if entry.generation < known.generation && known.tokens.is_some() {
            // What is stored was restored from an old copy, or never had the newest: the newest
            // goes back. A refresh token that was sent in vain may still be good.
            if known.state == RecordState::Intent {
                known.state = RecordState::Clean;
            }
            return self.save(Phase::Restoring);
        }
        if self.memory.unsaved && self.rules.rotates {
            // Another process sent the same refresh token, and was faster to store what it got.
            self.memory.aside = known.tokens.take();
        }
        self.memory.unsaved = false;
        *known = entry;
        self.proceed(wanted)
    }

    /// Goes on with what is both known and stored.
    fn proceed(&mut self, wanted: impl Fn(&T) -> bool) -> Do<T> {
        let known = &mut self.memory.known;
        match known.state {
            RecordState::Dead if self.memory.aside.is_some() => return self.send_aside(),
            RecordState::Dead if !self.rules.retry_dead => return Do::Finish(End::Ended),
            RecordState::Clean if known.tokens.as_ref().is_some_and(wanted) => {
                return Do::Finish(End::Adopted);
            }
            RecordState::Clean | RecordState::Intent | RecordState::Dead => {}
        }
        if !self.rules.rotates {
            return self.send();
        }
        // Clean | Intent | Dead -> Intent. Also from Intent, although it says so already: where
        // nothing can be written, nothing may be spent.
        self.may_resend = known.state == RecordState::Clean;
        known.state = RecordState::Intent;
        self.save(Phase::Intending)
    }

    /// The store does not answer, or the lock is not to be had.
    fn without_store(&mut self, wanted: impl Fn(&T) -> bool) -> Do<T> {
        let ahead = self.memory.unsaved;
        if ahead && self.memory.known.tokens.as_ref().is_some_and(wanted) {
            return Do::FinishLocked(End::NoStore);
        }
        // What is here alone, nobody else can spend. And what was never read cannot be the newest.
        let allowed = self.rules.without_store && self.memory.known.tokens.is_some();
        if ahead || allowed || !self.rules.rotates {
            self.may_resend = true;
            return self.send();
        }
        self.finish(End::NoStore)
    }

    fn send(&mut self) -> Do<T> {
        self.phase = Phase::Sent;
        self.sent = self.memory.known.tokens.clone();
        let again = self.rules.rotates && !self.may_resend;
        Do::Send { tokens: self.sent.clone(), again }
    }

    /// Sends what lost against tokens that turned out to be dead.
    fn send_aside(&mut self) -> Do<T> {
        self.phase = Phase::Sent;
        self.sent = self.memory.aside.take();
        self.may_resend = false;
        Do::Send { tokens: self.sent.clone(), again: false }
    }

    fn granted(&mut self, tokens: T) -> Do<T> {
        let known = &mut self.memory.known;
        let generation = known.generation.max(self.stored).saturating_add(1);
        // What was sent is spent, so this is the newest from here on, stored or not.
        *known = Entry { generation, state: RecordState::Clean, tokens: Some(tokens) };
        self.memory.unsaved = true;
        self.memory.aside = None;
        self.save(Phase::Committing)
    }

    /// The refresh token was refused. Perhaps it was not the newest.
    fn reread(&mut self, entry: Entry<T>, wanted: impl Fn(&T) -> bool) -> Do<T> {
        let other = entry.tokens.is_some() && entry.tokens != self.memory.known.tokens;
        if self.is_newer(&entry) || (entry.generation == self.stored && other) {
            if entry.state != RecordState::Dead && entry.tokens.as_ref().is_some_and(&wanted) {
                // Also when its renewal is under way: somebody else has the lock by now.
                self.memory.known = entry;
                self.memory.unsaved = false;
                return Do::Finish(End::Adopted);
            }
            return self.surprised(entry, wanted);
        }
        if self.memory.aside.is_some() {
            return self.send_aside();
        }
        // Intent -> Dead: marked, not deleted.
        self.stored = entry.generation;
        self.memory.known.state = RecordState::Dead;
        self.memory.unsaved = false;
        self.save(Phase::Burying)
    }

    /// Another process stored something first. Its tokens are used, and ours kept: which of them
    /// the server takes, only it knows.
    fn outrun(&mut self, entry: Entry<T>) -> Do<T> {
        self.stored = entry.generation;
        let known = &mut self.memory.known;
        let usable = entry.tokens.is_some() && entry.state != RecordState::Dead;
        if self.rules.rotates && usable && entry.generation >= known.generation {
            self.memory.aside = known.tokens.take();
            *known = entry;
            self.memory.unsaved = false;
            return Do::Finish(if self.without_access { End::Failed } else { End::Adopted });
        }
        let Some(left) = self.surprises.checked_sub(1) else {
            let end = if self.without_access { End::Failed } else { End::Unsaved };
            return Do::FinishLocked(end);
        };
        self.surprises = left;
        // Older, or without a token that lives: ours is the newest.
        known.generation = known.generation.max(entry.generation.saturating_add(1));
        self.save(Phase::Committing)
    }

    fn surprised(&mut self, entry: Entry<T>, wanted: impl Fn(&T) -> bool) -> Do<T> {
        let Some(left) = self.surprises.checked_sub(1) else { return self.finish(End::Failed) };
        self.surprises = left;
        self.found(entry, wanted)
    }

    fn is_newer(&self, entry: &Entry<T>) -> bool {
        entry.generation > self.stored.max(self.memory.known.generation)
    }

    fn save(&mut self, phase: Phase) -> Do<T> {
        self.phase = phase;
        Do::Save { expected: self.stored, entry: self.memory.known.clone() }
    }

    /// Ends. The lock is kept as long as the store lacks the newest tokens: another process would
    /// send the ones that are spent.
    fn finish(&self, end: End) -> Do<T> {
        if self.memory.unsaved { Do::FinishLocked(end) } else { Do::Finish(end) }
    }
}

/// A store that changes more often during one renewal is not one.
const MAX_SURPRISES: u8 = 3;

#[cfg(test)]
mod explorer;
#[cfg(test)]
mod tests;
