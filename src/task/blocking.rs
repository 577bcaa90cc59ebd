//! Work that blocks its thread, such as file operations.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, task::spawn_blocking, time::timeout};

use super::contain;

/// Runs a job on one of tokio's blocking threads. A job that has begun goes on when nobody waits
/// for it any more, and the end of the runtime waits for it.
///
/// # Errors
///
/// When no thread can be started, or none took the job within `patience`. Such a job is dropped at
/// once, with all that it holds, and never runs; so is one whose caller goes away before it has
/// begun. tokio alone would keep it until a later job finds a thread.
pub(crate) async fn blocking<T: Send + 'static>(
    patience: Option<Duration>,
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, outcome) = oneshot::channel();
    let offer = Offer(Arc::new(Mutex::new(Some(job))));
    let (begun, has_begun) = oneshot::channel();
    let taken = offer.0.clone();
    let spawned = contain(|| {
        spawn_blocking(move || {
            // Withdrawn: nobody waits for it.
            let Some(job) = take(&taken) else { return };
            let _ = begun.send(());
            let _ = sender.send(contain(job));
        })
    });
    if spawned.is_none() {
        return Err(no_thread());
    }
    if let Some(patience) = patience
        && timeout(patience, has_begun).await.is_err()
        && take(&offer.0).is_some()
    {
        return Err(no_thread());
    }
    match outcome.await {
        Ok(Some(outcome)) => outcome,
        Ok(None) => Err(io::Error::other("the operation panicked")),
        Err(_) => Err(io::Error::other("the runtime is shutting down")),
    }
}

/// A job that waits for a thread. It is withdrawn when this is dropped.
struct Offer<J>(Arc<Mutex<Option<J>>>);

impl<J> Drop for Offer<J> {
    fn drop(&mut self) {
        drop(take(&self.0));
    }
}

fn take<J>(offer: &Mutex<Option<J>>) -> Option<J> {
    offer.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn no_thread() -> io::Error {
    io::Error::new(
        io::ErrorKind::WouldBlock,
        "no thread is free for it, and none can be started; raise the limit of threads \
         (ulimit -u, or pids.max of the control group)",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::runtime::Builder;

    use super::*;

    const PATIENCE: Option<Duration> = Some(Duration::from_millis(200));

    #[tokio::test]
    async fn a_job_returns_what_it_gives_and_its_panic_is_an_error() {
        assert_eq!(blocking(None, || Ok(7)).await.unwrap(), 7);
        let panicked = blocking(None, || -> io::Result<()> { panic!("in a job") }).await;
        assert!(panicked.unwrap_err().to_string().contains("panicked"));
    }

    /// One thread, which never ends: what waits behind it is withdrawn, and what it holds is free.
    #[test]
    fn f102_a_job_that_no_thread_takes_fails_in_time_and_holds_nothing() {
        let runtime = Builder::new_current_thread().enable_time().max_blocking_threads(1).build();
        let runtime = runtime.unwrap();
        let (release, blocked) = mpsc::channel::<()>();
        drop(runtime.spawn_blocking(move || blocked.recv()));
        runtime.block_on(async {
            let held = Arc::new(());
            let (late, dropped) = (held.clone(), held.clone());
            let error = blocking(PATIENCE, move || Ok(late)).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            assert_eq!(Arc::strong_count(&held), 2);
            // A caller that gives up first.
            let given_up =
                timeout(Duration::from_millis(50), blocking(None, move || Ok(dropped))).await;
            assert!(given_up.is_err());
            assert_eq!(Arc::strong_count(&held), 1);
            drop(release);
            blocking(PATIENCE, || Ok(())).await.unwrap();
        });
    }
}
