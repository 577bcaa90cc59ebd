use std::{
    fmt,
    future::{Future, pending, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{
    begun::Begun,
    fetch::{Fetch, revoke},
    listen::Listening,
    plan::{Facts, Held, Plan, next_attempt, plan},
    policy::Schedule,
    setbacks::{Pause, Remains, Setbacks},
    shared::{Published, Shared},
    status::State,
};
use crate::{
    error::{Error, ErrorKind},
    observe::{Event, FetchReason},
    slot::Entry,
    source::{DynTokenSource, FetchContext, StepUp},
    task::Contained,
    time::{Clock, Moment, believed, instant_in, timers},
    token::TokenSet,
};

/// The task that keeps a token fresh, for the caller's executor.
///
/// It must be polled within a tokio runtime. It ends when the last handle is dropped or
/// [`shutdown()`](super::TokenHandle::shutdown) is called; when it is dropped before, requests that
/// need a token fail with [`ErrorKind::Shutdown`](crate::ErrorKind::Shutdown).
#[must_use = "no token is obtained unless the refresher runs"]
pub struct Refresher(Contained<'static, ()>);

impl Refresher {
    pub(super) fn new(
        shared: Arc<Shared>,
        source: Arc<dyn DynTokenSource>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        // Made here and moved in, so that a task which is dropped unpolled has ended too.
        let running = Running(shared);
        // The source's destructor may panic, wherever the refresher is dropped.
        Self(Contained::new(async move { Task::new(&running.0, source, clock).run().await }))
    }
}

impl Future for Refresher {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(|_| ())
    }
}

impl fmt::Debug for Refresher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refresher")
    }
}

/// However the refresher ends, no token is served after it.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.end();
    }
}

struct Task<'a> {
    shared: &'a Shared,
    source: Arc<dyn DynTokenSource>,
    clock: Arc<dyn Clock>,
    fetch: Option<Fetch>,
    listening: Listening,
    /// When it is listened again, after something was heard.
    listen_from: Instant,
    /// The last token set, whatever became of it: it carries the refresh token.
    previous: Option<Arc<TokenSet>>,
    /// The last token that was refused and given again: it may come into service after all.
    on_trial: Option<(Begun, Schedule)>,
    lifetime: Option<Duration>,
    facts: Facts,
    setbacks: Setbacks,
    /// Boot time of the last early renewal for a jump of the wall clock.
    renewed_for_jump: Option<Duration>,
    random: fastrand::Rng,
}

impl<'a> Task<'a> {
    fn new(shared: &'a Shared, source: Arc<dyn DynTokenSource>, clock: Arc<dyn Clock>) -> Self {
        let facts = Facts {
            held: None,
            missing: FetchReason::Initial,
            fetching: false,
            requested: false,
            step_up: false,
            renew: false,
            paused_until: None,
            asked_until: None,
            not_before: None,
        };
        Self {
            shared,
            source,
            clock,
            fetch: None,
            listening: Listening::Idle,
            listen_from: Instant::now(),
            previous: None,
            on_trial: None,
            lifetime: None,
            facts,
            setbacks: Setbacks::default(),
            renewed_for_jump: None,
            random: fastrand::Rng::new(),
        }
    }

    async fn run(mut self) {
        if let Err(missing) = timers() {
            let message = format!("the token refresher cannot run {}", missing.as_str());
            return self.shared.close(Error::new(ErrorKind::Shutdown, message));
        }
        let mut revoke = loop {
            self.shared.note_look();
            let asked = self.shared.take_requests();
            if asked.end {
                break asked.revoke;
            }
            self.facts.requested |= asked.refresh;
            // By its number: a newer token may have been published since the report.
            if self.facts.held.is_some_and(|held| asked.rejected == Some(held.epoch)) {
                // Fresh -> Rejected: whoever reported it has emptied the slot.
                self.facts.held = None;
                self.facts.missing = FetchReason::Rejected;
                if !self.shared.status.borrow().grant_has_ended() {
                    // It was meant for a renewal, while there was a token.
                    self.facts.paused_until = None;
                }
                self.listening.pause();
            }
            // Not while a fetch is under way, which renews it as well.
            let refused = |held: Held| asked.renew == Some(held.epoch);
            self.facts.renew |= !self.facts.fetching && self.facts.held.is_some_and(refused);
            if let Some(epoch) = asked.confirmed {
                self.confirm(epoch);
            }
            self.facts.step_up = self.shared.step_ups().is_wanted();
            let now = self.clock.now();
            if let Some(held) = &mut self.facts.held
                && held.notice_jump(now, self.random.f64(), &mut self.renewed_for_jump)
                && let Some(entry) = self.shared.slot.peek()
            {
                self.shared.slot.restamp(&entry);
            }
            match plan(now, &self.facts) {
                Plan::Expire(epoch) => self.expire(epoch),
                Plan::Fetch(reason) => self.start(now, reason),
                Plan::Sleep(time) => self.idle(now, time).await,
            }
        };
        self.listening.pause();
        self.shared.close(ended());
        // A fetch under way is finished: it may have rotated a refresh token. If the runtime or
        // the deadline ends it first, nothing more can be done.
        if let Some(fetch) = &mut self.fetch
            && let Ok(token) = fetch.ended().await
        {
            self.previous = Some(Arc::new(token));
        }
        revoke.append(&mut self.shared.take_requests().revoke);
        if !revoke.is_empty() {
            self.revoke(revoke).await;
        }
    }

    /// Revokes the last tokens. They are out of service before, whatever becomes of the call.
    async fn revoke(mut self, asked: Vec<oneshot::Sender<Result<(), Error>>>) {
        let cx = FetchContext {
            previous: self.previous.take(),
            reason: FetchReason::Requested,
            step_up: StepUp::default(),
            deadline: instant_in(self.shared.policy.fetch_timeout),
            clock: self.clock.clone(),
            stored: false,
        };
        let outcome = revoke(self.source.clone(), cx).await;
        for sender in asked {
            // Whoever asked may have lost interest.
            let _ = sender.send(outcome.clone());
        }
    }

    /// Waits for whatever comes first: a fetch that ends, a token that somebody else obtained, a
    /// request, or the time to look again.
    async fn idle(&mut self, now: Moment, time: Duration) {
        self.tell_next_attempt(now);
        self.listen();
        match next(self.fetch.as_mut(), &mut self.listening, self.shared, time).await {
            Some(Next::Fetched(outcome)) => self.fetched(outcome),
            Some(Next::Heard(outcome)) => self.heard(outcome),
            Some(Next::Asked) | None => {}
        }
    }

    /// While a fetch is under way, it is the one to find what others have obtained.
    fn listen(&mut self) {
        if self.fetch.is_some() || !matches!(self.listening, Listening::Idle) {
            return;
        }
        let cx = FetchContext {
            previous: self.previous.clone(),
            reason: self.facts.held.map_or(self.facts.missing, |_| FetchReason::Due),
            step_up: self.shared.step_ups().begin(false),
            deadline: instant_in(Duration::MAX),
            clock: self.clock.clone(),
            stored: false,
        };
        self.listening.start(self.source.clone(), cx, self.listen_from);
    }

    // Any -> Fresh, without a fetch.
    fn heard(&mut self, outcome: Result<TokenSet, Error>) {
        // A source that hears something all the time is not believed more often than it would be
        // asked.
        self.listen_from = Instant::now() + self.shared.policy.pace(self.lifetime);
        let known = self.previous.as_ref().map(|token| token.access_token());
        let published = match outcome {
            // It may be the one that was refused.
            Ok(token) if known == Some(token.access_token()) => Ok(None),
            Ok(token) => {
                let begun = Begun::now(FetchReason::Renewed, &*self.clock);
                let schedule = self.shared.policy.schedule(&token, &begun, 0.0);
                // It has expired since it was stored, or is about to.
                if schedule.is_spent(begun.moment) { Ok(None) } else { self.publish(begun, token) }
            }
            Err(error) => Err(error),
        };
        if let Err(error) = published {
            self.listening = Listening::Off;
            self.shared.sink.emit(&Event::NotListening { error: &error });
        }
    }

    fn fetched(&mut self, outcome: Result<TokenSet, Error>) {
        let Some(fetch) = self.fetch.take() else { return };
        self.facts.fetching = false;
        let granted = outcome.as_ref().ok().and_then(|token| token.scopes().cloned());
        let outcome = outcome.and_then(|token| self.publish(fetch.begun, token));
        if outcome.is_err() {
            self.shared.fetch_failed();
        }
        let ended = outcome.as_ref().map(|_| granted.as_ref());
        self.shared.step_ups().end(ended, Instant::now());
        match outcome {
            Ok(None) => {}
            // Rejected -> Rejected: compared by value, it is the refused one.
            Ok(Some((error, pause))) => self.fail(&fetch, &error, Some(pause)),
            Err(error) if fetch.begun.reason == FetchReason::StepUp && !error.is_retryable() => {
                self.refuse_step_up(&fetch, &error);
            }
            Err(error) => self.fail(&fetch, &error, None),
        }
    }

    // Fresh | Due -> Expired | Failed: nobody renewed it in time.
    fn expire(&mut self, epoch: u64) {
        self.facts.held = None;
        self.facts.missing = FetchReason::Expired;
        self.listening.pause();
        if self.shared.slot.take(epoch) {
            self.shared.tell(|status| status.lose_token(State::Expired));
            self.shared.sink.emit(&Event::Expired { epoch });
        }
    }

    fn start(&mut self, now: Moment, reason: FetchReason) {
        self.listening = Listening::Idle;
        self.facts.fetching = true;
        self.facts.requested = false;
        self.facts.renew = false;
        let pace = self.shared.policy.pace(self.lifetime);
        // Who asks again and again is no reason to ask the server more often than once a second.
        let pace = if reason == FetchReason::Requested { pace.max(SECOND) } else { pace };
        self.facts.not_before = Some(now.after(pace));
        self.shared.sink.emit(&Event::Fetching { reason });
        let step_up = self.shared.step_ups().begin(reason == FetchReason::StepUp);
        self.fetch = Some(Fetch::start(
            &self.shared.sink,
            self.source.clone(),
            FetchContext {
                step_up,
                previous: self.previous.clone(),
                reason,
                deadline: instant_in(self.shared.policy.fetch_timeout),
                clock: self.clock.clone(),
                stored: false,
            },
        ));
        self.shared.tell(|status| {
            if status.state == State::Fresh {
                status.state = State::Due;
            }
            status.fetching = true;
            status.replacing = false;
            status.next_attempt = None;
            status.started += 1;
        });
    }

    // Any -> Fresh, unless it is the token that was refused: then returns why, and the pause.
    fn publish(
        &mut self,
        begun: Begun,
        token: TokenSet,
    ) -> Result<Option<(Error, Duration)>, Error> {
        let schedule = self.shared.policy.schedule(&token, &begun, self.random.f64());

        let token = Arc::new(token);
        // Kept even if it cannot be published: the refresh token in it may be the only live one.
        self.previous = Some(token.clone());
        schedule.check_alive(self.clock.now())?;
        match self.shared.publish(&token, &schedule, begun.reason)? {
            Published::InService(entry) => {
                self.on_trial = None;
                self.hold(begun, schedule, &entry);
                Ok(None)
            }
            Published::Refused { error, pause } => {
                self.on_trial = Some((begun, schedule));
                Ok(Some((error, pause)))
            }
        }
    }

    // Rejected -> Fresh: a server accepted the refused token after all.
    fn confirm(&mut self, epoch: u64) {
        let entry = self.shared.slot.peek().filter(|entry| entry.epoch() == epoch);
        if let Some((entry, (begun, schedule))) = entry.zip(self.on_trial.take()) {
            self.hold(begun, schedule, &entry);
        }
    }

    /// Notes that a token is in service.
    fn hold(&mut self, begun: Begun, schedule: Schedule, entry: &Entry) {
        let Schedule { lifetime, sent, refresh_after, expires } = schedule;
        let (now, instant) = (self.clock.now(), Instant::now());
        let refresh = believed(&*self.clock, sent.after(refresh_after));
        let expires = believed(&*self.clock, expires);
        let epoch = entry.epoch();
        self.facts.held = Some(Held { epoch, refresh, expires, baseline: now });
        // The renewal may have waited while another process obtained this token.
        self.facts.renew = false;
        self.facts.missing = FetchReason::Expired;
        self.facts.paused_until = None;
        self.facts.asked_until = None;
        self.lifetime = Some(lifetime);
        self.setbacks = Setbacks::default();
        let told = self.shared.tell(|status| {
            // It may have been refused, and taken out, since it was published.
            let in_service = self.shared.slot.peek().is_some_and(|entry| entry.epoch() == epoch);
            if in_service {
                status.state = State::Fresh;
            }
            status.epoch = epoch;
            status.obtained_at = Some(entry.validity().obtained);
            status.expires_at = Some(instant + expires.remaining(now));
            status.next_attempt = Some(instant + refresh.remaining(now));
            status.fetching = self.facts.fetching;
            if begun.reason != FetchReason::Renewed {
                status.finished = status.started - u64::from(self.facts.fetching);
            }
            status.failures = 0;
            status.error = None;
        });
        if !told {
            return;
        }
        self.shared.sink.emit(&Event::Obtained {
            epoch,
            reason: begun.reason,
            lifetime,
            expires_in: expires.remaining(now),
            took: begun.started.elapsed(),
        });
    }

    /// The token stays as good as it was, and so does its renewal.
    fn refuse_step_up(&mut self, fetch: &Fetch, error: &Error) {
        let now = self.clock.now();
        let held = self.facts.held;
        let told = self.shared.tell(|status| {
            if status.state == State::Due {
                status.state = State::Fresh;
            }
            status.fetching = false;
            status.finished += 1;
        });
        if !told {
            return;
        }
        self.shared.sink.emit(&Event::Failed {
            reason: FetchReason::StepUp,
            error,
            failures: self.setbacks.count(),
            retry_in: held.map_or(Duration::ZERO, |held| held.refresh.remaining(now)),
            holds_token: held.is_some(),
            took: fetch.begun.started.elapsed(),
        });
    }

    /// Notes a failure, and plans the next attempt: after `pause`, or else after a back-off.
    fn fail(&mut self, fetch: &Fetch, error: &Error, pause: Option<Duration>) {
        let now = self.clock.now();
        let left = self.facts.held.map_or(Duration::ZERO, |held| held.expires.remaining(now));
        let remains = Remains { lifetime: self.lifetime, left };
        let pause = match pause {
            Some(pause) => self.setbacks.note(pause),
            None => self.setbacks.fail(error, remains, &self.shared.policy, self.random.f64()),
        };
        let Pause { pause, asked } = pause;
        self.facts.paused_until = Some(now.after(pause));
        self.facts.asked_until = (!asked.is_zero()).then(|| now.after(asked));
        if let Some(held) = self.facts.held.as_mut().filter(|_| error.is_retryable()) {
            // Due from now on, also if the fetch was only asked for: the answer that was lost may
            // have replaced the refresh token, and a server takes the old one for a while at most.
            held.refresh = now;
        }
        let failures = self.setbacks.count();
        let holds_token = !left.is_zero();
        let next = next_attempt(now, &self.facts).unwrap_or_default();
        let told = self.shared.tell(|status| {
            if !holds_token && error.fails_at_once() {
                status.state = State::Failed;
            }
            (status.fetching, status.replacing) = (false, false);
            status.finished += 1;
            status.failures = failures;
            status.error = Some(error.clone());
            status.next_attempt = Some(instant_in(next));
        });
        if !told {
            return;
        }
        self.shared.sink.emit(&Event::Failed {
            reason: fetch.begun.reason,
            error,
            failures,
            retry_in: next,
            holds_token,
            took: fetch.begun.started.elapsed(),
        });
    }

    /// The status says when the next attempt is made; it is sent only when that has changed.
    fn tell_next_attempt(&self, now: Moment) {
        let next = next_attempt(now, &self.facts).map(instant_in);
        self.shared.status.send_if_modified(|status| {
            if status.state == State::Stopped {
                return false;
            }
            let close = |a: Instant, b: Instant| {
                a.max(b).saturating_duration_since(a.min(b)) < Duration::from_millis(50)
            };
            let same = match (status.next_attempt, next) {
                (Some(a), Some(b)) => close(a, b),
                (a, b) => a == b,
            };
            status.next_attempt = next;
            !same
        });
    }
}

/// What happens next.
enum Next {
    Fetched(Result<TokenSet, Error>),
    Heard(Result<TokenSet, Error>),
    Asked,
}

/// What happens first within a time.
async fn next(
    fetch: Option<&mut Fetch>,
    listening: &mut Listening,
    shared: &Shared,
    time: Duration,
) -> Option<Next> {
    let mut fetched = pin!(async {
        match fetch {
            Some(fetch) => fetch.ended().await,
            None => pending().await,
        }
    });
    let mut requested = pin!(shared.requested());
    let first = poll_fn(|cx| {
        if let Poll::Ready(outcome) = fetched.as_mut().poll(cx) {
            return Poll::Ready(Next::Fetched(outcome));
        }
        if let Poll::Ready(outcome) = listening.poll(cx) {
            return Poll::Ready(Next::Heard(outcome));
        }
        requested.as_mut().poll(cx).map(|()| Next::Asked)
    });
    timeout(time, first).await.ok()
}

/// The error of requests once the refresher has ended.
pub(super) fn ended() -> Error {
    Error::new(
        ErrorKind::Shutdown,
        "the token refresher has ended: it was shut down, or its runtime is gone",
    )
}

/// How far apart fetches are that were asked for.
const SECOND: Duration = Duration::from_secs(1);
