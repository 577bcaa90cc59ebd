use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::{ArcSwapOption, Guard};
use http::{HeaderMap, header::AUTHORIZATION};
use tokio::time::Instant;

#[cfg(feature = "pool")]
use super::header::single_header;
use super::{Entry, Validity, header::header_copies};
use crate::{
    error::Error,
    time::{Clock, Moment, believed},
    token::TokenSet,
};

/// The current token of one handle, or none.
///
/// One refresher writes; any number of requests read.
pub(crate) struct Slot {
    number: u64,
    epochs: AtomicU64,
    current: ArcSwapOption<Entry>,
    clock: Arc<dyn Clock>,
}

impl Slot {
    /// An empty slot.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            epochs: AtomicU64::new(0),
            current: ArcSwapOption::empty(),
            clock,
        }
    }

    /// Puts the current token into `headers` and returns its epoch; `None` if there is no token
    /// that is good by itself.
    #[inline]
    pub(crate) fn inject(&self, headers: &mut HeaderMap) -> Option<u64> {
        let current = self.current.load();
        let entry = self.good(&current).filter(|entry| !entry.is_bound())?;
        headers.insert(AUTHORIZATION, entry.header().clone());
        Some(entry.epoch())
    }

    /// The current token, if it is good and newer than `after`.
    pub(crate) fn newer_than(&self, after: u64) -> Option<Arc<Entry>> {
        self.find(after).map(|(entry, _)| entry)
    }

    /// As [`newer_than`](Self::newer_than), and whether the entry had to be
    /// [restamped](Self::restamp).
    pub(crate) fn find(&self, after: u64) -> Option<(Arc<Entry>, bool)> {
        let current = self.current.load();
        let entry = current.as_deref().filter(|entry| entry.epoch() > after)?;
        let good = self.good(&current).is_some();
        if !good && !self.restamp(entry) {
            return None;
        }
        Some((Guard::into_inner(current)?, !good))
    }

    /// Sets the wall time at which an entry expires anew, by boot time: the wall clock may have been
    /// set. `false` if the entry's time is over.
    pub(crate) fn restamp(&self, entry: &Entry) -> bool {
        let now = self.clock.now();
        let left = self.left(entry, now);
        if self.clock.boot_counts_sleep() {
            // The coarse clock may be late: what is over is over by any.
            let until = if left.is_zero() { SystemTime::UNIX_EPOCH } else { now.after(left).wall };
            entry.serve_until(until);
        }
        entry.slot == self.number && !left.is_zero()
    }

    /// How much of its time an entry has left.
    pub(crate) fn time_left(&self, entry: &Entry) -> Duration {
        self.left(entry, self.clock.now())
    }

    /// How much of its time an entry has left, as far as the clocks are believed.
    fn left(&self, entry: &Entry, now: Moment) -> Duration {
        believed(&*self.clock, entry.validity().expires).remaining(now)
    }

    /// What time it is, a few milliseconds late at most.
    pub(crate) fn coarse_wall(&self) -> SystemTime {
        self.clock.coarse_wall()
    }

    /// The current token, good or not.
    pub(crate) fn peek(&self) -> Option<Arc<Entry>> {
        self.current.load_full()
    }

    /// The epoch of the current token and when it was obtained, good or not, if it is this one.
    pub(crate) fn holding(&self, token: &TokenSet) -> Option<(u64, Instant)> {
        let current = self.current.load();
        let same = |entry: &&Arc<Entry>| entry.token().access_token() == token.access_token();
        let entry = current.as_ref().filter(same)?;
        Some((entry.epoch(), entry.validity().obtained))
    }

    /// Prepares a token for this slot, under this epoch.
    ///
    /// # Errors
    ///
    /// When the token cannot stand in a header.
    pub(crate) fn entry(
        &self,
        epoch: u64,
        token: Arc<TokenSet>,
        validity: Validity,
    ) -> Result<Arc<Entry>, Error> {
        let headers = header_copies(&token)?;
        self.epochs.store(epoch, Ordering::Relaxed);
        Ok(Arc::new(Entry::new(self.number, epoch, token, validity, headers)))
    }

    /// As [`entry`](Self::entry), with one header for all threads: a slot of which there are many
    /// must be small.
    #[cfg(feature = "pool")]
    pub(crate) fn slim_entry(
        &self,
        epoch: u64,
        token: Arc<TokenSet>,
        validity: Validity,
    ) -> Result<Arc<Entry>, Error> {
        let headers = single_header(&token)?;
        self.epochs.store(epoch, Ordering::Relaxed);
        Ok(Arc::new(Entry::new(self.number, epoch, token, validity, headers)))
    }

    /// Puts an entry of this slot into service.
    pub(crate) fn put(&self, entry: Arc<Entry>) {
        // The wall clock may have been set since its token was asked for.
        self.restamp(&entry);
        self.current.store(Some(entry));
    }

    /// Returns whether an entry that is out of service could be put into it: it has not expired.
    pub(crate) fn may_hold(&self, entry: &Entry) -> bool {
        !self.time_left(entry).is_zero()
    }

    /// The slot's number: no other slot of this process has it.
    #[cfg(feature = "pool")]
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The epoch of the last token; 0 before the first.
    pub(crate) fn last_epoch(&self) -> u64 {
        self.epochs.load(Ordering::Relaxed)
    }

    /// Takes the token of this epoch out; `false` if another one, or none, is current.
    pub(crate) fn take(&self, epoch: u64) -> bool {
        let current = self.current.load();
        if current.as_ref().is_none_or(|entry| entry.epoch() != epoch) {
            return false;
        }
        // The swap fails if another entry was published meanwhile: that one stays.
        let before = self.current.compare_and_swap(&current, None);
        before.as_ref().is_some_and(|entry| entry.epoch() == epoch)
    }

    /// Takes whatever token there is out.
    pub(crate) fn clear(&self) {
        self.current.store(None);
    }

    #[inline]
    fn good<'g>(&self, current: &'g Guard<Option<Arc<Entry>>>) -> Option<&'g Entry> {
        let entry = current.as_deref()?;
        // The slot's number guards against an entry of another slot, which arc-swap before 1.9.5
        // could return under load.
        //
        // The refresher takes an expired entry out in time. The clock catches what the refresher
        // cannot: a machine that slept, a runtime that starves. It can only shorten a token's life;
        // if the wall clock was set, whoever waits for a token sees it and restamps the entry.
        let good = entry.slot == self.number && !entry.is_over(self.clock.coarse_wall_nanos());
        good.then_some(entry)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("current", &*self.current.load()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
