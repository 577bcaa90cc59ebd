use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot, watch},
    time::{Instant, timeout_at},
};

use super::{
    policy::Policy,
    refusal::Refusal,
    status::{State, Status},
    step_up::{StepUps, SteppingUp},
};
use crate::{
    error::{Error, ErrorKind},
    observe::{Event, FetchReason, Sink, Wait},
    slot::{Entry, Slot, Validity},
    source::StepUp,
    time::Moment,
    token::TokenSet,
};

/// What handles and the refresher share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) slot: Slot,
    pub(super) policy: Policy,
    pub(super) sink: Sink,
    pub(super) status: watch::Sender<Status>,
    inbox: Mutex<Inbox>,
    step_ups: Mutex<StepUps>,
    wake: Notify,
    waiting: AtomicUsize,
}

/// What the refresher is asked to do. Requests of one kind that meet here become one.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// `refresh()` was called.
    pub(super) refresh: bool,
    /// The token of this epoch was refused and taken out of the slot.
    pub(super) rejected: Option<u64>,
    /// `shutdown()` was called, or the last handle is gone.
    pub(super) end: bool,
    /// Who wants the tokens revoked at the end, and to know what became of it.
    pub(super) revoke: Vec<oneshot::Sender<Result<(), Error>>>,
    last_rejection: Option<Instant>,
}

/// What became of the report that a server refused a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// The token is out of service; a new one is being fetched.
    Accepted,
    /// It was out of service already, or a newer one is: the report changed nothing.
    Superseded,
    /// The token stays: too little time has passed since the last rejection, or since this token
    /// was obtained. A server that refuses every token must not flood the authorization server.
    TooSoon,
}

impl Shared {
    pub(super) fn new(slot: Slot, policy: Policy, sink: Sink) -> Self {
        Self {
            slot,
            policy,
            sink,
            status: watch::Sender::new(Status::new()),
            inbox: Mutex::default(),
            step_ups: Mutex::default(),
            wake: Notify::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Takes what the refresher is asked to do.
    pub(super) fn take_requests(&self) -> Inbox {
        let mut inbox = self.inbox();
        let last_rejection = inbox.last_rejection;
        mem::replace(&mut *inbox, Inbox { last_rejection, ..Inbox::default() })
    }

    /// Asks the refresher to do something.
    pub(super) fn request(&self, what: impl FnOnce(&mut Inbox)) {
        what(&mut self.inbox());
        self.wake.notify_one();
    }

    /// Asks the refresher to end and to revoke the tokens. The answer never comes if it has ended.
    pub(super) fn request_revocation(&self) -> oneshot::Receiver<Result<(), Error>> {
        let (sender, receiver) = oneshot::channel();
        self.request(|inbox| {
            inbox.end = true;
            inbox.revoke.push(sender);
        });
        // Afterwards: either this sees the end, or the end sees what was asked.
        if self.status.borrow().state == State::Stopped {
            self.inbox().revoke.clear();
        }
        receiver
    }

    /// Until somebody asks for something.
    pub(super) async fn requested(&self) {
        self.wake.notified().await;
    }

    /// Puts a token into service. The one that is in service already keeps its epoch, or its
    /// refusal would seem to be that of an older one; but not after a step-up, whose requests wait
    /// for the next.
    pub(super) fn publish(
        &self,
        token: Arc<TokenSet>,
        expires: Moment,
        reason: FetchReason,
    ) -> Result<Arc<Entry>, Error> {
        // So that the token that is there is not taken out meanwhile.
        let _inbox = self.inbox();
        let same = self.slot.holding(&token).filter(|_| reason != FetchReason::StepUp);
        let (epoch, obtained) =
            same.unwrap_or_else(|| (self.slot.last_epoch() + 1, Instant::now()));
        self.slot.publish(epoch, token, Validity { obtained, expires })
    }

    /// Takes a refused token out of service, unless that is doubtful.
    pub(super) fn reject(&self, refusal: Refusal) -> Rejection {
        let epoch = refusal.epoch;
        // Held to the end: of many reports at once, one is acted on.
        let mut inbox = self.inbox();
        let Some(entry) = self.slot.peek().filter(|entry| entry.epoch() == epoch) else {
            return Rejection::Superseded;
        };
        let now = Instant::now();
        let interval = self.policy.rejection_interval;
        let just_now = |last| now.saturating_duration_since(last) < interval;
        if refusal.is_doubtful(entry.validity(), now) || inbox.last_rejection.is_some_and(just_now)
        {
            return Rejection::TooSoon;
        }
        if !self.slot.take(epoch) {
            return Rejection::Superseded;
        }
        inbox.last_rejection = Some(now);
        inbox.rejected = Some(epoch);
        self.status.send_modify(|status| status.lose_token(State::Rejected));
        drop(inbox);
        self.wake.notify_one();
        self.sink.emit(&Event::Rejected { epoch });
        Rejection::Accepted
    }

    /// Asks for a token with more than the one of this epoch has. `None` if that would be in vain;
    /// if there is a newer token already, it is tried first.
    pub(super) fn step_up(&self, epoch: u64, step_up: StepUp) -> Option<SteppingUp> {
        if self.slot.newer_than(epoch).is_some() {
            return Some(SteppingUp::Done);
        }
        // While no token can be had, none with more can.
        if self.status.borrow().failures > 0 {
            return None;
        }
        let interval = self.policy.rejection_interval;
        let asked = self.step_ups().ask(step_up, Instant::now(), interval)?;
        self.wake.notify_one();
        Some(asked)
    }

    pub(super) fn step_ups(&self) -> MutexGuard<'_, StepUps> {
        // As with the inbox.
        self.step_ups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a token newer than `after`, until `deadline`.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing for anybody else: the refresher fetches, not this.
    pub(super) async fn wait(&self, after: u64, deadline: Instant) -> Result<Arc<Entry>, Error> {
        if let Some(entry) = self.slot.newer_than(after) {
            return Ok(entry);
        }
        can_wait()?;
        let wait = Wait::begin(|event: &Event<'_>| self.sink.emit(event));
        let _place = self.take_place()?;
        let outcome = self.wait_for_change(after, deadline).await;
        wait.end(outcome.is_ok());
        outcome
    }

    async fn wait_for_change(&self, after: u64, deadline: Instant) -> Result<Arc<Entry>, Error> {
        let mut status = self.status.subscribe();
        // The refresher may not know yet that the token is gone: timers stand still while a
        // machine sleeps.
        self.wake.notify_one();
        loop {
            let refusal = status.borrow_and_update().refusal().cloned();
            // After the status: a token that is published is published before it.
            if let Some(entry) = self.slot.newer_than(after) {
                return Ok(entry);
            }
            if let Some(error) = refusal {
                return Err(error);
            }
            if timeout_at(deadline, status.changed()).await.is_err() {
                let error = Error::new(ErrorKind::Timeout, "no token was obtained in time");
                let cause = status.borrow().error.clone();
                return Err(match cause {
                    Some(cause) => error.with_source(cause),
                    None => error,
                });
            }
        }
    }

    /// Waits until a fetch that starts after this call has ended.
    pub(super) async fn refreshed(&self, deadline: Instant) -> Result<Arc<Entry>, Error> {
        let mut status = self.status.subscribe();
        // Read before asking: a fetch that is under way now may not have seen what changed.
        let started = status.borrow_and_update().started;
        self.request(|inbox| inbox.refresh = true);
        loop {
            let (ended, error, blocked) = {
                let status = status.borrow_and_update();
                let error = status.error.clone();
                let stopped = status.state == State::Stopped;
                let blocked = error.as_ref().and_then(Error::retry_at);
                (status.finished > started || stopped, error, blocked)
            };
            match error {
                // What the server asked for is kept, and the caller told so at once.
                Some(error) if ended || blocked.is_some_and(|at| at > Instant::now()) => {
                    return Err(error);
                }
                None if ended => return self.wait(0, deadline).await,
                _ => {}
            }
            if timeout_at(deadline, status.changed()).await.is_err() {
                return Err(Error::new(ErrorKind::Timeout, "the refresh did not end in time"));
            }
        }
    }

    /// Marks the end: no token is served from here on, and nobody waits for one.
    pub(super) fn stop(&self) {
        if self.status.borrow().state == State::Stopped {
            return;
        }
        self.slot.clear();
        self.step_ups().close();
        self.status.send_modify(|status| {
            status.state = State::Stopped;
            status.fetching = false;
            status.next_attempt = None;
            status.error = Some(Error::new(
                ErrorKind::Shutdown,
                "the token refresher has ended: it was shut down, or its runtime is gone",
            ));
        });
        self.inbox().revoke.clear();
        self.sink.emit(&Event::Stopped);
    }

    fn take_place(&self) -> Result<Place<'_>, Error> {
        let place = Place(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.policy.max_waiting {
            return Err(Error::new(ErrorKind::Overloaded, "too many requests wait for a token"));
        }
        Ok(place)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // Nothing panics while it is held; and plain flags cannot be left half-written.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there can be timers here: outside of a runtime they would panic.
pub(crate) fn can_wait() -> Result<(), Error> {
    match Handle::try_current() {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::new(
            ErrorKind::Timeout,
            "there is no token at hand, and it can be waited for in a tokio runtime only",
        )),
    }
}

/// A place among those that wait, given back on drop.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
