use std::{
    future::Future,
    sync::{Arc, Mutex as SyncMutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};

use crate::{
    error::{Error, ErrorKind},
    observe::metadata_failed,
    time::Moment,
};

/// One value that came over the network, kept for a while. Callers that need it at the same time
/// make one request, and one that was had survives all failures to renew it.
#[derive(Debug)]
pub(super) struct Cache<T> {
    /// Held by whoever makes the request.
    flight: Mutex<()>,
    state: SyncMutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    copy: Option<Copied<T>>,
    /// How many requests have ended.
    ended: u64,
    /// What the last one failed with.
    error: Option<Error>,
}

#[derive(Debug)]
struct Copied<T> {
    value: Arc<T>,
    fetched: Moment,
    expires: Moment,
}

impl<T> Cache<T> {
    pub(super) fn new() -> Self {
        let state = State { copy: None, ended: 0, error: None };
        Self { flight: Mutex::new(()), state: SyncMutex::new(state) }
    }

    /// The value, from here if it is fresh, or else by `fetch`, which tells how long it stays so.
    ///
    /// # Cancellation
    ///
    /// Safe: another caller makes the request.
    pub(super) async fn get<F, Fut>(
        &self,
        now: impl Fn() -> Moment,
        deadline: Instant,
        fetch: F,
    ) -> Result<Arc<T>, Error>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<(T, Duration), Error>>,
    {
        let (old, ended) = {
            let state = self.state();
            match &state.copy {
                Some(copy) if copy.is_fresh(now()) => return Ok(copy.value.clone()),
                copy => (copy.as_ref().map(|copy| copy.value.clone()), state.ended),
            }
        };
        let _flight = match old {
            // Somebody else renews it; it will do until then.
            Some(old) => match self.flight.try_lock() {
                Ok(flight) => flight,
                Err(_) => return Ok(old),
            },
            None => timeout_at(deadline, self.flight.lock()).await.map_err(|_| {
                Error::new(ErrorKind::Timeout, "the metadata was not there in time")
            })?,
        };
        {
            let state = self.state();
            match (&state.copy, &state.error) {
                (Some(copy), _) if copy.is_fresh(now()) => return Ok(copy.value.clone()),
                // What this caller waited for has failed: it does not try in its turn.
                (None, Some(error)) if state.ended != ended => return Err(error.clone()),
                _ => {}
            }
        }
        let outcome = fetch().await;
        let now = now();
        let mut state = self.state();
        state.ended = state.ended.wrapping_add(1);
        match outcome {
            Ok((value, life)) => {
                let value = Arc::new(value);
                let copy = Copied { value: value.clone(), fetched: now, expires: now.after(life) };
                state.copy = Some(copy);
                state.error = None;
                Ok(value)
            }
            Err(error) => {
                metadata_failed(&error, state.copy.is_some());
                state.error = Some(error.clone());
                let copy = state.copy.as_mut().ok_or(error)?;
                copy.expires = now.after(PAUSE);
                Ok(copy.value.clone())
            }
        }
    }

    /// Has the value renewed at the next occasion: something about it did not work. One that is
    /// younger than a minute stays: it would be the same.
    pub(super) fn doubt(&self, now: Moment) {
        if let Some(copy) = &mut self.state().copy
            && copy.fetched.after(PAUSE).remaining(now).is_zero()
        {
            copy.expires = copy.fetched;
        }
    }

    /// Why the last request failed, if it did.
    pub(super) fn last_error(&self) -> Option<Error> {
        self.state().error.clone()
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Copied<T> {
    fn is_fresh(&self, now: Moment) -> bool {
        !self.expires.remaining(now).is_zero()
    }
}

/// Between two attempts to renew what is still there.
const PAUSE: Duration = Duration::from_secs(60);
