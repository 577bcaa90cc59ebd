//! A machine that is restored from a snapshot, hours later: none of its clocks knows of them.
#![cfg(test)]

use log_watch as _;

mod common;

use std::time::Duration;

use common::{api::Api, clock::TestClock, script::Script};
use http::{Request, Response, StatusCode};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt};
use tower_oauth::{BoxError, CloneRequest, OAuth, OAuthLayer, State, TokenHandle};

const API: &str = "https://api.example";
const HOUR: Duration = Duration::from_secs(3600);

/// The clock starts at 22:13:20, and the token lives an hour.
const WITHIN: &str = "Tue, 14 Nov 2023 23:13:00 GMT";
const AFTER: &str = "Tue, 14 Nov 2023 23:13:20 GMT";
const YEARS_AFTER: &str = "Wed, 14 Nov 2035 23:13:20 GMT";

struct Machine {
    source: Script,
    tokens: TokenHandle,
    api: Api,
    client: OAuth<Api, CloneRequest>,
}

/// A machine that has just got its token when it is stopped. When it is resumed, the API takes
/// newer ones only.
async fn resumed() -> Machine {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::builder(source.clone()).clock(TestClock::new()).spawn();
    tokens.ready().await.unwrap();
    let api = Api::new();
    api.accept(|token| token != "Bearer token-1");
    let layer = OAuthLayer::new(tokens.clone(), API.parse().unwrap()).replay(CloneRequest);
    Machine { source, tokens, client: layer.layer(api.clone()), api }
}

impl Machine {
    async fn get(&self) -> Result<Response<String>, BoxError> {
        self.client.clone().oneshot(Request::get(API).body(String::new()).unwrap()).await
    }

    async fn status(&self) -> StatusCode {
        self.get().await.unwrap().status()
    }
}

#[tokio::test(start_paused = true)]
async fn f52_a_token_that_ended_while_all_clocks_stood_still_is_renewed_by_its_refusal() {
    let machine = resumed().await;
    // For all that the machine knows, the token is new.
    assert_eq!(machine.tokens.status().state(), State::Fresh);
    for _ in 0..100 {
        assert_eq!(machine.status().await, 200);
    }
    assert_eq!((machine.api.count(), machine.source.count()), (101, 2));
}

#[tokio::test(start_paused = true)]
async fn f52_a_date_after_the_tokens_end_explains_a_bare_refusal() {
    for (date, is_believed) in [
        (Some(AFTER), true),
        (Some(YEARS_AFTER), true),
        (Some(WITHIN), false),
        (Some("Thu, 01 Jan 1970 00:00:00 GMT"), false),
        (Some("tomorrow"), false),
        (None, false),
    ] {
        let machine = resumed().await;
        let date: Vec<_> = date.iter().map(|date| ("date", *date)).collect();
        machine.api.refuse_with(401, &date);
        let (status, requests, fetches) = if is_believed { (200, 2, 2) } else { (401, 1, 1) };
        assert_eq!(machine.status().await, status, "{date:?}");
        assert_eq!((machine.api.count(), machine.source.count()), (requests, fetches), "{date:?}");
        // Without a date, after a few seconds: a token of that age is no longer beyond doubt.
        sleep(Duration::from_secs(10)).await;
        assert_eq!(machine.status().await, 200, "{date:?}");
        assert_eq!(machine.source.count(), 2, "{date:?}");
    }
}

/// Neither does a clock that is wrong for good let an API flood the authorization server.
#[tokio::test(start_paused = true)]
async fn f52_f17_an_api_from_the_future_causes_one_fetch_a_second() {
    let machine = resumed().await;
    machine.api.accept(|_| false).refuse_with(401, &[("date", YEARS_AFTER)]);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        assert_eq!(machine.status().await, 401);
        sleep(Duration::from_millis(10)).await;
    }
    assert!(machine.source.count() <= 62, "{}", machine.source.count());
}

#[cfg(feature = "pool")]
#[tokio::test(start_paused = true)]
async fn f52_a_tenants_token_is_renewed_by_the_date_of_a_bare_refusal_as_well() {
    for (date, status) in [(AFTER, 200), (WITHIN, 401)] {
        let source = Script::tokens(HOUR);
        let script = source.clone();
        let pool = tower_oauth::TokenPool::builder(move |_: &u8| script.clone())
            .clock(TestClock::new())
            .spawn();
        let api = Api::new();
        api.accept(|token| token != "Bearer token-1").refuse_with(401, &[("date", date)]);
        let layer = OAuthLayer::keyed(pool, API.parse().unwrap(), |_: &Request<String>| Some(7));
        let client = layer.replay(CloneRequest).layer(api);
        let request = Request::get(API).body(String::new()).unwrap();
        assert_eq!(client.oneshot(request).await.unwrap().status(), status, "{date}");
    }
}
