//! What APIs ask for beyond what the token has, and what comes of it.

use std::{mem, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::shared::can_wait;
use crate::{
    error::{Error, ErrorKind},
    source::StepUp,
    token::Scopes,
};

/// The outcome of a fetch that was asked for, once there is one.
type Pending = oneshot::Receiver<Result<(), Error>>;

/// A step-up that was asked for.
#[derive(Debug)]
pub enum SteppingUp {
    /// There is a newer token.
    Done,
    /// One is being fetched.
    Pending(Pending),
}

impl SteppingUp {
    /// Waits for its end.
    pub(crate) async fn ended(self, deadline: Instant) -> Result<(), Error> {
        let Self::Pending(pending) = self else { return Ok(()) };
        can_wait()?;
        match timeout_at(deadline, pending).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Error::new(ErrorKind::Shutdown, "the token refresher has ended")),
            Err(_) => Err(Error::new(ErrorKind::Timeout, "no token was obtained in time")),
        }
    }
}

/// The step-ups of one handle.
#[derive(Debug, Default)]
pub(super) struct StepUps {
    /// Asked for, and not fetched yet.
    wanted: Option<Wanted>,
    /// Being fetched.
    current: Option<Wanted>,
    /// Scopes that were had, and that later tokens are asked for as well.
    in_effect: Scopes,
    /// Before this, nothing more is asked for.
    not_before: Option<Instant>,
    /// How many step-ups were asked for since there was a quiet time.
    asked: u32,
    /// Whether nobody fetches any more.
    closed: bool,
}

#[derive(Debug, Default)]
struct Wanted {
    step_up: StepUp,
    waiting: Vec<oneshot::Sender<Result<(), Error>>>,
}

impl Wanted {
    fn covers(&self, step_up: &StepUp) -> bool {
        step_up.scopes.is_subset(&self.step_up.scopes)
            && (step_up.claims.is_none() || step_up.claims == self.step_up.claims)
    }

    fn join(&mut self) -> Pending {
        let (sender, receiver) = oneshot::channel();
        if self.waiting.len() == self.waiting.capacity() {
            // Those who have gone make room.
            self.waiting.retain(|sender| !sender.is_closed());
        }
        self.waiting.push(sender);
        receiver
    }
}

impl StepUps {
    /// Asks for a step-up. `None` if it would be in vain: it was had and the API is still not
    /// content, or one was refused just now. An API that is never content must not flood the
    /// authorization server.
    pub(super) fn ask(
        &mut self,
        step_up: StepUp,
        now: Instant,
        interval: Duration,
    ) -> Option<SteppingUp> {
        if let Some(current) = self.current.as_mut().filter(|current| current.covers(&step_up)) {
            return Some(SteppingUp::Pending(current.join()));
        }
        if self.adds_too_much(&step_up) {
            return None;
        }
        if let Some(wanted) = &mut self.wanted {
            wanted.step_up.scopes.extend(&step_up.scopes);
            wanted.step_up.claims = step_up.claims.or(wanted.step_up.claims.take());
            return Some(SteppingUp::Pending(wanted.join()));
        }
        if self.closed {
            return None;
        }
        let had = step_up.claims.is_none() && step_up.scopes.is_subset(&self.in_effect);
        if had || self.not_before.is_some_and(|not_before| now < not_before) {
            return None;
        }
        if self.not_before.is_some_and(|at| now.saturating_duration_since(at) >= LONGEST) {
            self.asked = 0;
        }
        // An API that is never content must not flood the authorization server.
        let doublings = self.asked.saturating_sub(FREE).min(16);
        let pause = interval.max(SHORTEST).saturating_mul(1 << doublings).min(LONGEST);
        self.not_before = Some(now + pause.max(interval.min(FOR_EVER)));
        self.asked = self.asked.saturating_add(1);
        self.wanted = Some(Wanted { step_up, waiting: Vec::new() });
        self.wanted.as_mut().map(|wanted| SteppingUp::Pending(wanted.join()))
    }

    /// Whether the scopes that one API or many have named would be too many. A single challenge may
    /// name thousands.
    fn adds_too_much(&self, step_up: &StepUp) -> bool {
        let mut all = self.in_effect.clone();
        let wanted = self.wanted.iter().map(|wanted| &wanted.step_up);
        wanted.chain([step_up]).for_each(|step_up| all.extend(&step_up.scopes));
        all.len() > MOST_SCOPES
    }

    /// Nobody fetches any more: who waits is told so.
    pub(super) fn close(&mut self) {
        *self = Self { closed: true, ..Self::default() };
    }

    /// Whether something is asked for and not fetched yet.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    /// What a fetch asks for; if it is for a step-up, what is wanted among it.
    pub(super) fn begin(&mut self, for_step_up: bool) -> StepUp {
        let mut step_up = StepUp::scopes(self.in_effect.clone());
        if for_step_up {
            self.current = self.wanted.take();
        }
        if let Some(current) = &self.current {
            step_up.scopes.extend(&current.step_up.scopes);
            step_up.claims.clone_from(&current.step_up.claims);
        }
        step_up
    }

    /// A fetch has ended, with these scopes if the authorization server said which it granted.
    pub(super) fn end(&mut self, outcome: Result<Option<&Scopes>, &Error>, now: Instant) {
        let refused = outcome.is_err_and(|error| !error.is_retryable());
        let current = mem::take(&mut self.current);
        if refused {
            if current.is_some() {
                self.not_before = now.checked_add(REFUSED);
            } else {
                // Whatever is wrong now, the source's own scopes come first.
                self.in_effect = Scopes::default();
            }
        }
        let Some(Wanted { step_up, waiting }) = current else { return };
        if let Ok(granted) = outcome {
            // What was not granted is not in effect, and to ask for it with every token would be in
            // vain, now and later.
            let is_granted = |scope: &&str| granted.is_none_or(|granted| granted.contains(scope));
            for scope in step_up.scopes.iter().filter(is_granted) {
                let _ = self.in_effect.insert(scope);
            }
            if granted.is_some_and(|granted| !step_up.scopes.is_subset(granted)) {
                self.not_before = now.checked_add(REFUSED);
            }
        }
        let outcome = outcome.map(drop);
        for waiting in waiting {
            // Who has gone needs no answer.
            let _ = waiting.send(outcome.map_err(Clone::clone));
        }
    }
}

/// How many step-ups may follow each other at the shortest interval: after these, the interval is
/// doubled for each, up to [`LONGEST`], until there was none for that long.
const FREE: u32 = 8;

const LONGEST: Duration = Duration::from_secs(300);

/// The shortest interval, whatever the settings say.
const SHORTEST: Duration = Duration::from_millis(100);

/// How long an interval is for ever.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How many scopes step-ups may add up to.
const MOST_SCOPES: usize = 100;

/// How long a refused step-up is not tried again.
const REFUSED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(scope: &str) -> StepUp {
        let mut scopes = Scopes::default();
        scopes.insert(scope).unwrap();
        StepUp::scopes(scopes)
    }

    const INTERVAL: Duration = Duration::from_secs(1);

    fn outcome(stepping_up: &mut SteppingUp) -> Result<(), Error> {
        match stepping_up {
            SteppingUp::Done => Ok(()),
            SteppingUp::Pending(pending) => pending.try_recv().unwrap(),
        }
    }

    #[test]
    fn stp_02_many_ask_and_one_fetch_answers_all() {
        let (mut ups, now) = (StepUps::default(), Instant::now());
        let mut first = ups.ask(wants("a"), now, INTERVAL).unwrap();
        let mut second = ups.ask(wants("b"), now, INTERVAL).unwrap();
        assert!(ups.is_wanted());
        assert_eq!(ups.begin(true).scopes.to_string(), "a b");
        assert!(!ups.is_wanted());
        let mut third = ups.ask(wants("a"), now, INTERVAL).unwrap();
        assert!(!ups.is_wanted(), "it joins the fetch that is under way");
        ups.end(Ok(None), now);
        for pending in [&mut first, &mut second, &mut third] {
            assert!(outcome(pending).is_ok());
        }
        assert_eq!(ups.begin(false).scopes.to_string(), "a b", "later tokens have them too");
        assert!(ups.ask(wants("a"), now + REFUSED, INTERVAL).is_none(), "it has been had");
    }

    #[test]
    fn stp_02_what_was_refused_is_not_asked_for_again_at_once() {
        let (mut ups, now) = (StepUps::default(), Instant::now());
        let mut pending = ups.ask(wants("a"), now, INTERVAL).unwrap();
        ups.begin(true);
        ups.end(Err(&Error::new(ErrorKind::InvalidRequest, "no")), now);
        assert!(outcome(&mut pending).is_err());
        assert!(ups.begin(false).is_empty());
        assert!(ups.ask(wants("a"), now + INTERVAL, INTERVAL).is_none());
        assert!(ups.ask(wants("a"), now + REFUSED, INTERVAL).is_some());
    }

    #[test]
    fn stp_02_claims_are_sent_once_and_scopes_that_are_refused_later_are_given_up() {
        let (mut ups, now) = (StepUps::default(), Instant::now());
        ups.ask(StepUp { claims: Some("{}".into()), ..wants("a") }, now, INTERVAL).unwrap();
        assert_eq!(ups.begin(true).claims.as_deref(), Some("{}"));
        ups.end(Ok(None), now);
        assert_eq!(ups.begin(false), wants("a"));
        ups.end(Err(&Error::new(ErrorKind::Server, "later")), now);
        assert_eq!(ups.begin(false), wants("a"));
        ups.end(Err(&Error::new(ErrorKind::InvalidRequest, "no more")), now);
        assert!(ups.begin(false).is_empty());
        assert!(ups.ask(StepUp::claims("{}"), now, INTERVAL).is_none(), "within the interval");
        assert!(ups.ask(StepUp::claims("{}"), now + INTERVAL, INTERVAL).is_some());
    }

    #[test]
    fn stp_02_only_what_a_fetch_asks_for_is_joined() {
        let (mut ups, now) = (StepUps::default(), Instant::now());
        let claims = |claims: &str| StepUp { claims: Some(claims.into()), ..wants("a") };
        let mut first = ups.ask(claims("{}"), now, INTERVAL).unwrap();
        ups.begin(true);
        let mut same = ups.ask(claims("{}"), now, INTERVAL).unwrap();
        let mut fewer = ups.ask(wants("a"), now, INTERVAL).unwrap();
        assert!(!ups.is_wanted());
        // Others wait for a fetch of their own, and not longer than the interval says.
        assert!(ups.ask(claims("[]"), now, INTERVAL).is_none());
        let mut other = ups.ask(wants("b"), now + INTERVAL, INTERVAL).unwrap();
        assert!(ups.is_wanted());
        ups.end(Ok(None), now);
        for pending in [&mut first, &mut same, &mut fewer] {
            assert!(outcome(pending).is_ok());
        }
        let SteppingUp::Pending(other) = &mut other else { panic!("it is not done") };
        assert!(other.try_recv().is_err(), "nobody has asked for it");
    }

    #[test]
    fn stp_02_an_api_that_is_never_content_causes_ever_fewer_fetches() {
        let (mut ups, start) = (StepUps::default(), Instant::now());
        let mut asked = 0;
        for second in 0..3600 {
            let now = start + INTERVAL * second;
            if ups.ask(StepUp::claims("{}"), now, INTERVAL).is_some() {
                asked += 1;
                ups.begin(true);
                ups.end(Ok(None), now);
            }
        }
        assert!(asked <= 30, "{asked} in an hour");
        // With an interval of for ever, once.
        let mut ups = StepUps::default();
        assert!(ups.ask(StepUp::claims("{}"), start, Duration::MAX).is_some());
        ups.begin(true);
        ups.end(Ok(None), start);
        assert!(ups.ask(StepUp::claims("{}"), start + LONGEST, Duration::MAX).is_none());
    }

    #[test]
    fn stp_02_scopes_do_not_add_up_without_end() {
        let (mut ups, start) = (StepUps::default(), Instant::now());
        for n in 0..1000 {
            let now = start + LONGEST * n * 2;
            if ups.ask(wants(&format!("scope-{n}")), now, INTERVAL).is_some() {
                ups.begin(true);
                ups.end(Ok(None), now);
            }
        }
        assert_eq!(ups.begin(false).scopes.iter().count(), MOST_SCOPES);
    }

    #[test]
    fn stp_02_scopes_that_were_not_granted_are_not_asked_for_with_every_token() {
        let (mut ups, now) = (StepUps::default(), Instant::now());
        let mut pending = ups.ask(wants("a"), now, INTERVAL).unwrap();
        ups.ask(wants("b"), now, INTERVAL).unwrap();
        ups.begin(true);
        ups.end(Ok(Some(&wants("b").scopes)), now);
        assert!(outcome(&mut pending).is_ok(), "there is a newer token");
        assert_eq!(ups.begin(false).scopes.to_string(), "b");
        assert!(ups.ask(wants("a"), now + INTERVAL, INTERVAL).is_none(), "it was refused just now");
        assert!(ups.ask(wants("a"), now + REFUSED, INTERVAL).is_some());
    }

    #[test]
    fn stp_02_one_challenge_does_not_add_thousands_of_scopes() {
        let (mut ups, now) = (StepUps::default(), Instant::now());
        let mut many = StepUp::default();
        (0..=MOST_SCOPES).for_each(|n| many.scopes.insert(&format!("s{n}")).unwrap());
        assert!(ups.ask(many, now, INTERVAL).is_none());
        assert!(ups.ask(wants("a"), now, INTERVAL).is_some());
    }

    #[test]
    fn at_the_end_whoever_waits_is_let_go_and_nobody_may_ask() {
        let (mut ups, now) = (StepUps::default(), Instant::now());
        let wanted = ups.ask(wants("a"), now, INTERVAL).unwrap();
        ups.close();
        let SteppingUp::Pending(mut wanted) = wanted else { panic!("it is not done") };
        assert_eq!(wanted.try_recv().unwrap_err(), oneshot::error::TryRecvError::Closed);
        assert!(ups.ask(wants("b"), now + REFUSED, INTERVAL).is_none());
    }
}
