//! What the status tells, and when.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, advance, sleep, timeout},
};
use tower_oauth::{
    Error, ErrorKind, Rejection, State, Status, TokenHandle,
    observe::Event,
    time::{Clock, Moment},
};

use crate::{
    HOUR,
    common::{
        clock::TestClock,
        script::{Script, Step, fail},
    },
    secs, settle, value,
};

#[tokio::test(start_paused = true)]
async fn the_status_tells_the_life_of_a_token() {
    let source = Script::tokens(secs(100));
    let tokens = TokenHandle::spawn(source.clone());
    assert_eq!(tokens.status().state(), State::Empty);
    tokens.ready().await.unwrap();
    settle().await;
    let status = tokens.status();
    assert_eq!((status.state(), status.epoch()), (State::Fresh, 1));
    let next = status.next_attempt().unwrap() - status.obtained_at().unwrap();
    assert!((secs(75)..=secs(85)).contains(&next), "{next:?}");
    source.otherwise(fail(ErrorKind::Server));
    advance(secs(86)).await;
    settle().await;
    let status = tokens.status();
    assert_eq!(status.state(), State::Due);
    assert!(status.is_ready() && status.failures() > 0 && status.error().is_some());
    sleep(secs(20)).await;
    assert_eq!(tokens.status().state(), State::Expired);
    assert!(!format!("{tokens:?}").contains("token-1"));
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_is_told_of_what_changes_and_of_nothing_else() {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::spawn(source.clone());
    let mut status = tokens.subscribe();
    tokens.ready().await.unwrap();
    settle().await;
    status.borrow_and_update();
    // The clocks are compared every half minute; that is no news.
    sleep(secs(1800)).await;
    assert!(!status.has_changed().unwrap());

    source.then([fail(ErrorKind::Server), Step::Take(secs(1), Box::new(fail(ErrorKind::Server)))]);
    let started = Instant::now();
    let failed = status.wait_for(|s| s.failures() == 1 && s.next_attempt().is_some());
    let next = failed.await.unwrap().next_attempt().unwrap();
    let told = Instant::now();
    assert!(told - started < secs(1300) && next > told && next - told <= secs(30));
    settle().await;
    let during = tokens.status().next_attempt().unwrap();
    assert!(during + Duration::from_millis(50) > next, "the pause is forgotten");
    // Not only when something else is told as well, and not too late.
    let second = status.wait_for(Status::is_fetching).await.unwrap().clone();
    assert_eq!((second.next_attempt(), second.failures()), (None, 1));
    assert!(next.saturating_duration_since(Instant::now()) < Duration::from_millis(50));
    status.wait_for(|s| s.failures() == 0 && s.next_attempt().is_some()).await.unwrap();
    assert_eq!(tokens.status().epoch(), 2);
}

/// Whoever looks on another thread may see it at any time.
#[tokio::test(start_paused = true)]
async fn when_a_token_is_told_the_status_says_already_when_it_is_due() {
    let source = Script::tokens(HOUR);
    // It was asked for when the fetch began, ten seconds before it is here.
    source.then([Step::Take(secs(10), Box::new(Step::Token(HOUR)))]);
    let handle = Arc::new(OnceLock::<TokenHandle>::new());
    let due_in = Arc::new(Mutex::new(None));
    let observer = {
        let (handle, due_in) = (handle.clone(), due_in.clone());
        move |event: &Event<'_>| {
            if let Event::Obtained { .. } = event {
                let next = handle.get().unwrap().status().next_attempt().unwrap();
                *due_in.lock().unwrap() = next.checked_duration_since(Instant::now());
            }
        }
    };
    let tokens = TokenHandle::builder(source).observer(observer).spawn();
    handle.set(tokens.clone()).unwrap();
    tokens.ready().await.unwrap();
    let due_in = due_in.lock().unwrap().expect("it is due later");
    assert!((secs(2690)..=secs(3050)).contains(&due_in), "{due_in:?}");
}

#[tokio::test(start_paused = true)]
async fn while_a_token_is_fetched_nobody_is_told_again_of_what_is_the_same() {
    let source = Script::tokens(HOUR);
    source.then([Step::Take(secs(20), Box::new(Step::Token(HOUR)))]);
    let tokens = TokenHandle::spawn(source);
    settle().await;
    let mut status = tokens.subscribe();
    assert!(status.borrow_and_update().is_fetching());
    // Each of them makes the refresher look again, and none needs to be woken for it.
    let waiting: JoinSet<_> = (0..10)
        .map(|_| {
            let tokens = tokens.clone();
            async move { value(&tokens).await }
        })
        .collect();
    settle().await;
    sleep(secs(1)).await;
    assert!(!status.has_changed().unwrap());
    waiting.join_all().await;
}

// It told the next look at the clocks, half a minute away.
#[tokio::test(start_paused = true)]
async fn f70_the_next_attempt_is_that_of_the_server_and_not_the_next_look() {
    let source = Script::tokens(HOUR);
    let asked = Instant::now() + secs(1800);
    source.then([Step::Fail(Error::new(ErrorKind::Throttled, "later").with_retry_at(asked))]);
    let tokens = TokenHandle::spawn(source.clone());
    sleep(secs(100)).await;
    assert_eq!(source.count(), 1);
    let next = tokens.status().next_attempt().unwrap();
    let apart = next.max(asked) - next.min(asked);
    assert!(apart < secs(1), "{apart:?}");

    let refused = Script::new(fail(ErrorKind::InvalidClient));
    let tokens = TokenHandle::spawn(refused.clone());
    tokens.ready().await.unwrap_err();
    let next = tokens.status().next_attempt().unwrap();
    sleep(secs(40)).await;
    assert_eq!(refused.count(), 1);
    let later = tokens.status().next_attempt().unwrap();
    assert!(next.max(later) - next.min(later) < secs(1));
    sleep(next - Instant::now() + secs(1)).await;
    assert_eq!(refused.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn f70_an_error_that_ends_a_wait_tells_when_the_next_attempt_is_made() {
    let source = Script::new(fail(ErrorKind::InvalidClient));
    let tokens = TokenHandle::spawn(source);
    let error = tokens.token().await.unwrap_err();
    let close = |error: &Error| {
        let (told, next) = (error.retry_at().unwrap(), tokens.status().next_attempt().unwrap());
        told.max(next) - told.min(next) < Duration::from_millis(100)
    };
    assert!(close(&error) && error.retry_at().unwrap() > Instant::now() + secs(50));
    let source = Script::new(fail(ErrorKind::Server));
    let tokens = TokenHandle::spawn(source);
    sleep(secs(600)).await;
    let error = tokens.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let (told, next) = (error.retry_at().unwrap(), tokens.status().next_attempt().unwrap());
    assert!(told.max(next) - told.min(next) < Duration::from_millis(100));
}

/// A clock that has a token rejected when it is asked after the token was put into service: that is
/// before the status tells of it.
#[derive(Debug)]
struct Meddling {
    clock: TestClock,
    tokens: Arc<OnceLock<TokenHandle>>,
    asked: AtomicBool,
    rejected: AtomicBool,
}

impl Clock for Meddling {
    fn now(&self) -> Moment {
        if let Some(tokens) = self.tokens.get()
            && !self.asked.swap(true, Ordering::Relaxed)
        {
            if tokens.current().is_some() && !self.rejected.swap(true, Ordering::Relaxed) {
                assert_eq!(tokens.reject(1), Rejection::Accepted);
            }
            self.asked.store(false, Ordering::Relaxed);
        }
        self.clock.now()
    }
}

// A rejection between slot and status was overwritten: "ready", and no token.
#[tokio::test(start_paused = true)]
async fn f70_a_handle_is_ready_exactly_when_a_request_would_get_a_token() {
    let source = Script::new(Step::Hang);
    source.then([Step::Token(HOUR)]);
    let handle = Arc::new(OnceLock::new());
    let (asked, rejected) = (AtomicBool::new(false), AtomicBool::new(false));
    let clock = Meddling { clock: TestClock::new(), tokens: handle.clone(), asked, rejected };
    let tokens = TokenHandle::builder(source).clock(clock).spawn();
    handle.set(tokens.clone()).unwrap();
    let mut status = tokens.subscribe();
    let told = status.wait_for(|status| status.epoch() == 1 && status.is_fetching());
    timeout(secs(10), told).await.expect("it is told").unwrap();
    assert!(tokens.current().is_none());
    assert!(!status.borrow().is_ready());
    assert!(!tokens.status().is_ready());
}

#[test]
fn f70_f72_a_token_that_expires_while_nobody_polls_the_runtime_is_not_called_fresh() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let clock = TestClock::new();
    let tokens = runtime.block_on(async {
        let source = Script::tokens(HOUR);
        let tokens = TokenHandle::builder(source).clock(clock.clone()).spawn();
        tokens.ready().await.unwrap();
        tokens
    });
    assert_eq!(tokens.status().state(), State::Fresh);
    clock.sleep_machine(HOUR);
    assert_eq!(tokens.status().state(), State::Expired);
    assert!(!tokens.status().is_ready());
}

#[tokio::test(start_paused = true)]
async fn f72_a_refresher_that_is_not_polled_does_not_run() {
    let (tokens, refresher) = TokenHandle::pair(Script::tokens(HOUR));
    assert!(!tokens.status().is_running());
    let error = tokens.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("does not run"), "{error}");
    let mut refresher = tokio_test::task::spawn(refresher);
    assert!(refresher.poll().is_pending());
    assert!(tokens.status().is_running());
    advance(secs(59)).await;
    assert!(tokens.status().is_running());
    advance(secs(2)).await;
    assert!(!tokens.status().is_running());
    assert!(refresher.poll().is_pending());
    assert!(tokens.status().is_running());
    drop(refresher);
    assert!(!tokens.status().is_running());
}
