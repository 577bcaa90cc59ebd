//! Tokens that somebody else obtained, and that a source hears of: `TokenSource::renewed`.
#![cfg(test)]

use log_watch as _;

use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tower_oauth::{
    Chain, Error, ErrorKind, FetchContext, Rejection, Replaceable, TokenHandle, TokenSet,
    TokenSource,
    observe::{Event, FetchReason},
    source_fn,
};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

/// What one call of `renewed` does.
#[derive(Clone)]
enum Step {
    Token(Duration, &'static str),
    Panic,
    Wait,
}

/// Gives `name-1`, `name-2` and so on, and hears of what it is told. Clones are the same source.
#[derive(Clone, Default)]
struct Source {
    name: &'static str,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    fetched: usize,
    failing: Option<ErrorKind>,
    steps: VecDeque<Step>,
    calls: Vec<(Instant, FetchContext)>,
    listening: usize,
    events: Vec<String>,
}

impl Source {
    fn new(name: &'static str, steps: impl IntoIterator<Item = Step>) -> Self {
        let source = Self { name, ..Self::default() };
        source.state().steps.extend(steps);
        source
    }

    fn spawn(&self) -> TokenHandle {
        let state = self.state.clone();
        let observer =
            move |event: &Event<'_>| state.lock().unwrap().events.push(format!("{event:?}"));
        TokenHandle::builder(self.clone()).observer(observer).spawn()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn count(&self, kind: &str) -> usize {
        self.state().events.iter().filter(|event| event.starts_with(kind)).count()
    }
}

/// Is told when a call is over, however it ends.
struct Listening(Source);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.state().listening -= 1;
    }
}

impl TokenSource for Source {
    async fn fetch(&self, _: FetchContext) -> Result<TokenSet, Error> {
        let mut state = self.state();
        if let Some(kind) = state.failing {
            return Err(Error::new(kind, "scripted failure"));
        }
        state.fetched += 1;
        Ok(TokenSet::bearer(format!("{}-{}", self.name, state.fetched))?.with_lifetime(HOUR))
    }

    async fn renewed(&self, cx: FetchContext) -> TokenSet {
        let step = {
            let mut state = self.state();
            state.calls.push((Instant::now(), cx));
            state.listening += 1;
            state.steps.pop_front().unwrap_or(Step::Wait)
        };
        let _listening = Listening(self.clone());
        match step {
            Step::Token(after, token) => {
                sleep(after).await;
                TokenSet::bearer(token).unwrap().with_lifetime(HOUR)
            }
            Step::Panic => panic!("scripted panic"),
            Step::Wait => pending().await,
        }
    }
}

fn current(tokens: &TokenHandle) -> Option<String> {
    Some(tokens.current()?.access_token().expose().to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_heard_of_is_served_at_once_and_renewed_in_its_turn() {
    let source = Source::new("mine", [Step::Token(SECOND * 100, "theirs")]);
    let tokens = source.spawn();
    tokens.ready().await.unwrap();
    let started = Instant::now();
    let mut status = tokens.subscribe();
    status.wait_for(|status| status.epoch() == 2).await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 100);
    assert_eq!(current(&tokens).unwrap(), "theirs");
    let told = source.state().events.join("\n");
    assert!(told.contains("reason: Renewed"), "{told}");
    // Its own refresh point counts, not the one of the token before.
    let next = tokens.status().next_attempt().unwrap() - started;
    assert!(next >= SECOND * 99 + HOUR * 3 / 4, "{next:?}");
    assert_eq!(source.state().fetched, 1);
    sleep(HOUR).await;
    assert_eq!(current(&tokens).unwrap(), "mine-2");
    // What is told the source: what there is, and why it is asked.
    let state = source.state();
    let calls: Vec<_> = state.calls.iter().map(|(_, cx)| cx).collect();
    let previous: Vec<_> =
        calls.iter().map(|cx| cx.previous.as_ref().unwrap().access_token().expose()).collect();
    assert_eq!(previous, ["mine-1", "theirs", "mine-2"]);
    assert!(calls.iter().all(|cx| cx.reason == FetchReason::Due));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_heard_of_ends_a_pause_after_a_failure() {
    let source = Source::new("mine", [Step::Token(SECOND * 20, "theirs")]);
    source.state().failing = Some(ErrorKind::InvalidClient);
    let tokens = source.spawn();
    assert_eq!(tokens.token().await.unwrap_err().kind(), ErrorKind::InvalidClient);
    sleep(SECOND * 21).await;
    assert_eq!(tokens.token().await.unwrap().access_token().expose(), "theirs");
    let status = tokens.status();
    assert!(status.is_ready() && status.failures() == 0 && status.error().is_none(), "{status:?}");
    assert_eq!(source.state().calls[0].1.reason, FetchReason::Initial);
}

// The renewal of a refused token waited for a pause to end, and was made for the token that another
// process had obtained meanwhile.
#[tokio::test(start_paused = true)]
async fn f75_a_token_that_is_heard_of_ends_the_renewal_of_a_refused_one() {
    let source = Source::new("mine", [Step::Wait, Step::Wait, Step::Token(SECOND * 20, "theirs")]);
    let tokens = source.spawn();
    tokens.ready().await.unwrap();
    sleep(SECOND).await;
    tokens.reject(1);
    let epoch = tokens.token().await.unwrap().epoch();
    sleep(SECOND * 2).await;
    source.state().failing = Some(ErrorKind::InvalidClient);
    assert_eq!(tokens.reject(epoch), Rejection::Renewing);
    sleep(SECOND * 6).await;
    // The next attempt is a minute away.
    tokens.reject(epoch);
    assert_eq!(source.count("Renewing"), 2);
    source.state().failing = None;
    sleep(SECOND * 300).await;
    assert_eq!(current(&tokens).unwrap(), "theirs");
    assert_eq!(source.state().fetched, 2);
}

/// Hears of a token that has this little time left.
struct Late(Source, Duration);

impl TokenSource for Late {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        self.0.fetch(cx).await
    }

    async fn renewed(&self, cx: FetchContext) -> TokenSet {
        self.0.renewed(cx).await.with_lifetime(self.1)
    }
}

// A hint that was late brought a token that had expired meanwhile, and it took the place of a good one.
#[tokio::test(start_paused = true)]
async fn a_token_that_has_expired_when_it_is_heard_of_is_not_served() {
    for left in [SECOND / 1000, SECOND / 3] {
        let source = Source::new("mine", [Step::Token(SECOND, "theirs")]);
        let tokens = TokenHandle::spawn(Late(source.clone(), left));
        tokens.ready().await.unwrap();
        sleep(SECOND + SECOND / 10).await;
        assert_eq!(current(&tokens).unwrap(), "mine-1");
        sleep(HOUR).await;
        assert_eq!(current(&tokens).unwrap(), "mine-2");
        assert_eq!(source.state().fetched, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_listened_to_while_a_token_is_fetched() {
    let source = Source::new("mine", []);
    let tokens = source.spawn();
    for _ in 0..3 {
        tokens.refresh().await.unwrap();
        sleep(SECOND).await;
        assert_eq!(source.state().listening, 1, "the one before was not dropped");
    }
    tokens.shutdown().await;
    sleep(SECOND).await;
    assert_eq!(source.state().listening, 0, "it does not end with the handle");
}

#[tokio::test(start_paused = true)]
async fn f25_a_panic_while_listening_ends_nothing_else() {
    let source = Source::new("mine", [Step::Panic, Step::Token(SECOND, "theirs")]);
    let tokens = source.spawn();
    tokens.ready().await.unwrap();
    sleep(HOUR / 2).await;
    assert_eq!((source.count("NotListening"), source.state().calls.len()), (1, 1));
    assert_eq!(current(&tokens).unwrap(), "mine-1");
    assert_eq!(tokens.status().failures(), 0);
    // Also a token that is refused does not make it listen before the next fetch.
    source.state().failing = Some(ErrorKind::InvalidClient);
    tokens.reject(1);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(source.state().calls.len(), 2);
    sleep(SECOND * 2).await;
    assert_eq!(current(&tokens).unwrap(), "theirs");
}

/// A broken source must not make a fleet spin, nor must it be refused what it had refused.
#[tokio::test(start_paused = true)]
async fn a_source_that_hears_something_all_the_time_is_heard_at_a_pace() {
    let endless = (0..10_000).map(|i| Step::Token(Duration::ZERO, ["a", "b"][i % 2]));
    let source = Source::new("mine", endless);
    let tokens = source.spawn();
    tokens.ready().await.unwrap();
    sleep(SECOND * 10).await;
    let calls = source.state().calls.len();
    assert!((10..=22).contains(&calls), "{calls} calls in 10 s");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_refused_is_not_served_again() {
    let source = Source::new("mine", [Step::Wait, Step::Token(SECOND, "mine-1")]);
    let tokens = source.spawn();
    tokens.ready().await.unwrap();
    // So that it is fetched at once, and fails.
    sleep(SECOND).await;
    source.state().failing = Some(ErrorKind::InvalidClient);
    tokens.reject(1);
    sleep(SECOND * 10).await;
    assert_eq!(source.state().calls.len(), 3, "it was heard of, and listened again");
    assert_eq!(current(&tokens), None);
    assert_eq!(tokens.status().epoch(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_chain_listens_to_the_source_that_gave_the_token() {
    let first = Source::new("first", [Step::Wait, Step::Token(SECOND, "not mine")]);
    let second = Source::new("second", [Step::Wait, Step::Token(SECOND, "theirs")]);
    first.state().failing = Some(ErrorKind::Transport);
    second.state().failing = Some(ErrorKind::Transport);
    let tokens = TokenHandle::spawn(Chain::new(first.clone()).or(second.clone()));
    sleep(Duration::from_millis(10)).await;
    // Without a token, to all.
    assert_eq!((first.state().listening, second.state().listening), (1, 1));
    second.state().failing = None;
    sleep(HOUR / 60).await;
    assert_eq!(current(&tokens).unwrap(), "theirs");
    assert_eq!((first.state().listening, second.state().listening), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn sources_around_sources_pass_it_on() {
    let source = || Source::new("mine", [Step::Token(SECOND, "theirs")]);
    for tokens in [
        TokenHandle::spawn(Arc::new(source())),
        TokenHandle::spawn(Replaceable::new(source())),
        TokenHandle::spawn(
            Chain::new(source_fn(|_| async { Err(Error::other("no")) })).or(source()),
        ),
    ] {
        tokens.ready().await.unwrap();
        sleep(SECOND * 2).await;
        assert_eq!(current(&tokens).unwrap(), "theirs");
    }
}

/// It had been told that the token is merely due.
#[tokio::test(start_paused = true)]
async fn after_a_refusal_the_source_is_asked_anew_with_the_reason() {
    let source = Source::new("mine", []);
    let tokens = source.spawn();
    tokens.ready().await.unwrap();
    // Within the pace of fetches, so that none comes in between.
    sleep(Duration::from_millis(10)).await;
    tokens.reject(1);
    sleep(Duration::from_millis(10)).await;
    let state = source.state();
    let reasons: Vec<_> = state.calls.iter().map(|(_, cx)| cx.reason).collect();
    assert_eq!(reasons, [FetchReason::Due, FetchReason::Rejected]);
    assert_eq!((state.listening, state.fetched), (1, 1));
}
