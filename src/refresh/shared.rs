use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot, watch},
    time::{Instant, timeout_at},
};

use super::{
    policy::{Policy, Schedule},
    refresher::ended,
    refusal::Refusal,
    rejections::{Act, Claim, Judgement, Rejection, Rejections, TrialUse},
    status::{State, Status},
    step_up::{StepUps, SteppingUp},
};
use crate::{
    error::{Error, ErrorKind},
    observe::{Event, FetchReason, Sink, Wait},
    slot::{Entry, Slot, Validity},
    source::StepUp,
    time::{instant_in, timers},
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
    /// The token of this epoch was refused, and stays in service until there is another one.
    pub(super) renew: Option<u64>,
    /// A token that was on trial is in service again.
    pub(super) confirmed: Option<u64>,
    /// `shutdown()` was called, or the last handle is gone.
    pub(super) end: bool,
    /// Who wants the tokens revoked at the end, and to know what became of it.
    pub(super) revoke: Vec<oneshot::Sender<Result<(), Error>>>,
    rejections: Rejections,
    /// Whether no token is put into service any more.
    closed: bool,
}

/// What became of a token that the source gave.
pub(super) enum Published {
    /// It is in service.
    InService(Arc<Entry>),
    /// It was refused before, and stays out of service for now. The next attempt is made after this
    /// pause.
    Refused { error: Error, pause: Duration },
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
        let (rejections, closed) = (mem::take(&mut inbox.rejections), inbox.closed);
        mem::replace(&mut *inbox, Inbox { rejections, closed, ..Inbox::default() })
    }

    /// Notes that the refresher looks at what there is to do.
    pub(super) fn note_look(&self) {
        self.status.send_if_modified(|status| {
            status.looked = Some(Instant::now());
            false
        });
    }

    /// The status of this moment: requests do not see what is told a moment later.
    pub(super) fn status(&self) -> Status {
        let mut status = self.status.borrow().clone();
        status.correct(self.slot.newer_than(0).is_some());
        if let Some(entry) = self.slot.peek() {
            // Timers stand still while the machine sleeps.
            status.expires_at = Some(instant_in(self.slot.time_left(&entry)));
        }
        status
    }

    /// Tells what the refresher has done, unless it has ended: `false` then.
    pub(super) fn tell(&self, what: impl FnOnce(&mut Status)) -> bool {
        self.status.send_if_modified(|status| {
            let goes_on = status.state != State::Stopped;
            if goes_on {
                what(status);
            }
            goes_on
        })
    }

    /// Asks the refresher to do something.
    pub(super) fn request(&self, what: impl FnOnce(&mut Inbox)) {
        what(&mut self.inbox());
        self.wake.notify_one();
    }

    /// Asks the refresher to end. No token is served from here on.
    pub(super) fn request_end(&self) {
        self.request(|inbox| inbox.end = true);
        self.close(ended());
    }

    /// Asks the refresher to end and to revoke the tokens. The answer never comes if it has ended.
    pub(super) fn request_revocation(&self) -> oneshot::Receiver<Result<(), Error>> {
        let (sender, receiver) = oneshot::channel();
        self.request(|inbox| {
            inbox.end = true;
            inbox.revoke.push(sender);
        });
        self.close(ended());
        // Afterwards: either this sees the end, or the end sees what was asked.
        if self.status.borrow().ended {
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
    /// for the next. One that was refused stays out of service.
    pub(super) fn publish(
        &self,
        token: &Arc<TokenSet>,
        schedule: &Schedule,
        reason: FetchReason,
    ) -> Result<Published, Error> {
        let now = Instant::now();
        // So that the token that is there is not taken out meanwhile.
        let mut inbox = self.inbox();
        if inbox.closed {
            return Err(ended());
        }
        let expires = schedule.expires;
        let same = self.slot.holding(token).filter(|_| reason != FetchReason::StepUp);
        let (epoch, obtained) = same.unwrap_or_else(|| (self.slot.last_epoch() + 1, now));
        let entry = || self.slot.entry(epoch, token.clone(), Validity { obtained, expires });
        match inbox.rejections.judge(&self.slot, token, now, entry) {
            Judgement::Publish => {
                let entry = entry()?;
                self.slot.put(entry.clone());
                Ok(Published::InService(entry))
            }
            Judgement::Refused(error) => {
                // What another process has stored is no renewal of ours.
                let pause = match reason {
                    FetchReason::Renewed => Duration::ZERO,
                    _ => inbox.rejections.pause(now, &self.policy),
                };
                Ok(Published::Refused { error, pause })
            }
        }
    }

    /// Takes a refused token out of service, or has it renewed, unless that is doubtful.
    pub(super) fn reject(&self, refusal: Refusal) -> Rejection {
        let epoch = refusal.epoch;
        // Held to the end: of many reports at once, one is acted on.
        let mut inbox = self.inbox();
        let backing_off = self.status.borrow().failures > 0;
        let now = Instant::now();
        let (outcome, act) =
            inbox.rejections.reject(&self.slot, refusal, now, &self.policy, backing_off);
        let event = match act {
            None => return outcome,
            Some(Act::Offer) => {
                drop(inbox);
                self.wake_waiting();
                return outcome;
            }
            Some(Act::Replace) => {
                inbox.rejected = Some(epoch);
                self.status.send_modify(|status| {
                    if status.grant_has_ended() {
                        status.lose_token(State::Rejected);
                    } else {
                        status.state = State::Rejected;
                        status.replacing = !status.fetching;
                    }
                });
                Event::Rejected { epoch }
            }
            Some(Act::Renew) => {
                inbox.renew = Some(epoch);
                Event::Renewing { epoch }
            }
        };
        drop(inbox);
        self.wake.notify_one();
        self.sink.emit(&event);
        outcome
    }

    /// Notes that a server accepted a request with the token of this epoch. `refused` says whether
    /// the request had been refused with an older one.
    pub(super) fn accepted(&self, epoch: u64, refused: bool) {
        let mut inbox = self.inbox();
        if inbox.closed {
            return;
        }
        let now = Instant::now();
        let Some(entry) = inbox.rejections.accepted(epoch, refused, now) else { return };
        // Trial -> Fresh: the server was wrong about it, or has changed its mind.
        let epoch = entry.epoch();
        self.slot.put(entry);
        inbox.confirmed = Some(epoch);
        self.status.send_modify(|status| {
            (status.state, status.epoch) = (State::Fresh, epoch);
            (status.failures, status.error) = (0, None);
        });
        drop(inbox);
        self.wake.notify_one();
    }

    /// Ends the claim of a caller that takes a token by hand.
    pub(super) fn taken_by_hand(&self, epoch: u64) {
        self.inbox().rejections.taken_by_hand(epoch, Instant::now(), &self.policy);
        self.wake_waiting();
    }

    /// Gives a claim back.
    pub(super) fn release(&self, claim: u64) {
        if self.inbox().rejections.release(claim) {
            self.wake_waiting();
        }
    }

    /// Has those who wait look again.
    fn wake_waiting(&self) {
        self.status.send_modify(|_| {});
    }

    /// The claim of the request that tries the token of this epoch, which was refused before.
    pub(super) fn claim_of(&self, epoch: u64) -> Option<u64> {
        self.inbox().rejections.claim_of(&self.slot, epoch)
    }

    /// Notes the end of a fetch that gave no token.
    pub(super) fn fetch_failed(&self) {
        self.inbox().rejections.fetch_ended();
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
    pub(super) async fn wait(
        &self,
        after: u64,
        deadline: Instant,
        trial: TrialUse,
    ) -> Result<Arc<Entry>, Error> {
        if let Some((entry, restamped)) = self.slot.find(after) {
            if restamped {
                // The wall clock was set: the token is renewed for it.
                self.wake.notify_one();
            }
            return Ok(entry);
        }
        can_wait()?;
        let wait = Wait::begin(|event: &Event<'_>| self.sink.emit(event));
        let outcome = match self.take_place() {
            Ok(_place) => self.wait_for_change(after, deadline, trial).await,
            Err(error) => Err(error),
        };
        wait.end(outcome.is_ok());
        outcome
    }

    async fn wait_for_change(
        &self,
        after: u64,
        deadline: Instant,
        trial: TrialUse,
    ) -> Result<Arc<Entry>, Error> {
        let mut status = self.status.subscribe();
        let began = Instant::now();
        // The refresher may not know yet that the token is gone: timers stand still while a
        // machine sleeps.
        self.wake.notify_one();
        loop {
            let refusal = {
                let status = status.borrow_and_update();
                status.refusal(deadline).map(|error| status.with_next_attempt(error.clone()))
            };
            // After the status: a token that is published is published before it.
            if let Some(entry) = self.slot.newer_than(after) {
                return Ok(entry);
            }
            if let Some(error) = refusal {
                return Err(error);
            }
            let mut until = deadline;
            {
                let mut inbox = self.inbox();
                let rejections = &mut inbox.rejections;
                match rejections.claim(&self.slot, Instant::now(), trial) {
                    Some(Claim::Now(entry)) => return Ok(entry),
                    Some(Claim::At(at)) => until = until.min(at),
                    None => {}
                }
                let in_vain = rejections.keeps(&self.slot, after)
                    || rejections.is_given_again(&self.slot, after);
                if after > 0 && in_vain {
                    return Err(kept());
                }
            }
            if timeout_at(until, status.changed()).await.is_err() && Instant::now() >= deadline {
                return Err(in_vain(&status.borrow(), began));
            }
        }
    }

    /// Waits until a fetch that starts after this call has ended.
    pub(super) async fn refreshed(&self, deadline: Instant) -> Result<Arc<Entry>, Error> {
        can_wait()?;
        let place = self.take_place()?;
        let (mut status, began) = (self.status.subscribe(), Instant::now());
        // Read before asking: a fetch that is under way now may not have seen what changed.
        let started = status.borrow_and_update().started;
        self.request(|inbox| inbox.refresh = true);
        loop {
            let (has_ended, error) = {
                let status = status.borrow_and_update();
                let stopped = status.state == State::Stopped;
                (status.finished > started || stopped, status.error.clone())
            };
            match error {
                _ if !has_ended => {}
                Some(error) => return Err(status.borrow().with_next_attempt(error)),
                None => {
                    drop(place);
                    return self.wait(0, deadline, TrialUse::Leave).await;
                }
            }
            if timeout_at(deadline, status.changed()).await.is_err() {
                return Err(in_vain(&status.borrow(), began));
            }
        }
    }

    /// Waits for a step-up that was asked for, and then for its token.
    pub(super) async fn stepped_up(
        &self,
        stepping_up: SteppingUp,
        epoch: u64,
        deadline: Instant,
    ) -> Result<Arc<Entry>, Error> {
        can_wait()?;
        let place = self.take_place()?;
        let began = Instant::now();
        let outcome = stepping_up.ended(deadline).await;
        drop(place);
        match outcome {
            Ok(()) => self.wait(epoch, deadline, TrialUse::Leave).await,
            // It was not fetched in time: what failed meanwhile is why.
            Err(_) if Instant::now() >= deadline => Err(in_vain(&self.status.borrow(), began)),
            Err(error) => Err(error),
        }
    }

    /// Takes the token out of service for good: who asks for one gets this error from here on.
    pub(super) fn close(&self, error: Error) {
        {
            let mut inbox = self.inbox();
            if mem::replace(&mut inbox.closed, true) {
                return;
            }
            self.slot.clear();
        }
        self.step_ups().close();
        self.status.send_modify(|status| {
            status.state = State::Stopped;
            status.next_attempt = None;
            status.error = Some(error);
        });
        self.sink.emit(&Event::Stopped);
    }

    /// Marks the end of the refresher.
    pub(super) fn end(&self) {
        self.close(ended());
        self.status.send_modify(|status| {
            status.fetching = false;
            status.ended = true;
        });
        self.inbox().revoke.clear();
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

/// The error of a wait for a newer token, when the renewal gave none and the old one stays.
pub(crate) fn kept() -> Error {
    Error::new(ErrorKind::UnusableToken, "the renewal gave no newer token")
}

/// Whether there can be timers here: where there cannot, they would panic.
pub(crate) fn can_wait() -> Result<(), Error> {
    timers().map_err(|missing| {
        let message = format!("a token cannot be waited for {}", missing.as_str());
        Error::new(ErrorKind::Timeout, message)
    })
}

/// The error of a wait that began then and was in vain.
fn in_vain(status: &Status, began: Instant) -> Error {
    // It was woken when the wait began.
    let message = if status.looked.is_some_and(|looked| looked >= began) || status.fetching {
        "no token was obtained in time"
    } else {
        "no token was obtained in time: the token refresher does not run; is its runtime polled?"
    };
    let error = Error::new(ErrorKind::Timeout, message);
    status.with_next_attempt(match status.error.clone() {
        Some(cause) => error.with_source(cause),
        None => error,
    })
}

/// A place among those that wait, given back on drop.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
