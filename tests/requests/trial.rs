//! A refused token that the source gives again.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower_layer::Layer;
use tower_oauth::{
    CloneRequest, Error, ErrorKind, FetchContext, State, TokenHandle, TokenSet, source_fn,
};

use super::{API, HOUR, get, kind, layer, millis, secs, send};
use crate::common::api::Api;

/// A source that gives the same token every time.
fn same() -> (TokenHandle, Arc<AtomicUsize>) {
    let fetches = Arc::new(AtomicUsize::new(0));
    let tokens = TokenHandle::spawn(source_fn({
        let fetches = fetches.clone();
        move |_: FetchContext| {
            fetches.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, Error>(TokenSet::bearer("same")?.with_lifetime(HOUR)) }
        }
    }));
    (tokens, fetches)
}

#[tokio::test(start_paused = true)]
async fn f77_a_request_that_was_refused_does_not_try_the_same_token_again() {
    let (tokens, _) = same();
    tokens.ready().await.unwrap();
    let api = Api::new();
    api.accept(|_| false).delay(millis(50));
    let client = layer(&tokens).replay(CloneRequest).layer(api.clone());
    let mut requests = JoinSet::new();
    for _ in 0..30 {
        requests.spawn(send(&client, get(API)));
    }
    let started = Instant::now();
    while let Some(outcome) = requests.join_next().await {
        assert_eq!(outcome.unwrap().unwrap().status(), 401);
    }
    // Once two renewals have given it again, there is nothing to wait for.
    assert!(started.elapsed() < secs(4), "{:?}", started.elapsed());
    assert_eq!(api.count(), 30);
    let status = tokens.status();
    assert_eq!(status.state(), State::Rejected);
    assert!(status.failures() > 0);
    assert_eq!(status.error().unwrap().kind(), ErrorKind::UnusableToken);
}

#[tokio::test(start_paused = true)]
async fn f77_a_refused_token_that_is_given_again_is_tried_by_one_request_at_a_time() {
    let (tokens, fetches) = same();
    tokens.ready().await.unwrap();
    let api = Api::new();
    api.accept(|_| false).delay(millis(50));
    let client = layer(&tokens).layer(api.clone());
    send(&client, get(API)).await.unwrap();
    let mut requests = JoinSet::new();
    for _ in 0..30 {
        requests.spawn(send(&client, get(API)));
    }
    let (mut refused, mut failed) = (0, 0);
    while let Some(outcome) = requests.join_next().await {
        match outcome.unwrap() {
            Ok(response) => {
                assert_eq!(response.status(), 401);
                refused += 1;
            }
            Err(error) => {
                assert_eq!(kind(&error), ErrorKind::Timeout);
                failed += 1;
            }
        }
    }
    // From the second renewal on, one after the other: after 1 s, 2 s, 3 s and so on.
    assert_eq!(refused + failed, 30);
    assert_eq!(api.count(), 1 + refused);
    assert!((5..=8).contains(&refused), "{refused}");
    assert!(fetches.load(Ordering::Relaxed) <= 6, "{fetches:?} fetches");
}

/// Slow answers, cancelled requests, requests that the service below is not ready for: each of them kept
/// the token from the others until the next renewal, up to 5 minutes.
#[tokio::test(start_paused = true)]
async fn f77_i12_a_request_that_goes_away_gives_the_token_to_the_next_one() {
    let (tokens, _) = same();
    tokens.ready().await.unwrap();
    let api = Api::new();
    api.accept(|_| false);
    let client = layer(&tokens).layer(api.clone());
    send(&client, get(API)).await.unwrap();
    // Renewals are minutes apart by now.
    sleep(secs(1200)).await;
    api.accept(|_| true).delay(millis(100));
    for fail_fast in [true, false] {
        let started = Instant::now();
        let cancelled = layer(&tokens).layer(api.clone());
        let immediate = layer(&tokens).fail_fast().layer(api.clone());
        let request = if fail_fast {
            tokio::time::timeout(millis(50), send(&immediate, get(API))).await
        } else {
            tokio::time::timeout(millis(50), send(&cancelled, get(API))).await
        };
        assert!(request.is_err(), "it goes away while the API answers");
        assert!(started.elapsed() < secs(1));
    }
    let started = Instant::now();
    assert_eq!(send(&client, get(API)).await.unwrap().status(), 200);
    assert_eq!(started.elapsed(), millis(100));
}

/// A caller of `token()` cannot say what became of it. It gets the token at times, and does not keep it
/// from the layer, whose requests show that a server accepts it.
#[tokio::test(start_paused = true)]
async fn f77_a_token_that_is_taken_by_hand_is_not_kept_from_requests() {
    let (tokens, _) = same();
    let first = tokens.token().await.unwrap();
    tokens.reject(first.epoch());
    let mut had = 0;
    for _ in 0..600 {
        had += usize::from(tokens.token().await.is_ok());
        sleep(secs(1)).await;
    }
    assert!(had > 20, "{had} of 600");
    tokio::spawn({
        let tokens = tokens.clone();
        async move {
            loop {
                let _ = tokens.token().await;
                sleep(millis(100)).await;
            }
        }
    });
    let client = layer(&tokens).layer(Api::new());
    let mut accepted = 0;
    for _ in 0..20 {
        accepted += usize::from(send(&client, get(API)).await.is_ok());
    }
    assert!(accepted > 10, "{accepted} of 20");
    assert_eq!(tokens.status().state(), State::Fresh);
}

/// One path refuses what the others accept, and the source has no other token: the healthy paths keep it.
#[tokio::test(start_paused = true)]
async fn f75_f77_a_path_that_refuses_the_only_token_takes_it_from_nobody_for_long() {
    let (tokens, fetches) = same();
    tokens.ready().await.unwrap();
    let below = tower::service_fn(|request: http::Request<String>| async move {
        let mut response = http::Response::new(String::new());
        if request.uri().path() == "/bad" {
            *response.status_mut() = http::StatusCode::UNAUTHORIZED;
            let challenge = http::HeaderValue::from_static(r#"Bearer error="invalid_token""#);
            response.headers_mut().insert("www-authenticate", challenge);
        }
        Ok::<_, std::convert::Infallible>(response)
    });
    let client = layer(&tokens).layer(below);
    let (mut failed, mut stalled) = (0, 0);
    for _ in 0..1800 {
        for _ in 0..5 {
            tokio::spawn(send(&client, get("https://api.example/bad")));
        }
        let started = Instant::now();
        failed += usize::from(send(&client, get("https://api.example/good")).await.is_err());
        stalled += usize::from(started.elapsed() > millis(10));
        sleep(secs(1)).await;
    }
    assert!(failed <= 2, "{failed} good requests failed");
    assert!(stalled <= 5, "{stalled} good requests stalled");
    assert!(fetches.load(Ordering::Relaxed) <= 30, "{fetches:?} fetches");
}

#[tokio::test(start_paused = true)]
async fn f77_a_refused_token_that_a_server_accepts_after_all_comes_back_into_service() {
    let (tokens, fetches) = same();
    tokens.ready().await.unwrap();
    let api = Api::new();
    api.accept(|_| false);
    let client = layer(&tokens).layer(api.clone());
    assert_eq!(send(&client, get(API)).await.unwrap().status(), 401);
    assert!(tokens.current().is_none());
    api.accept(|_| true);
    // Only one of them goes out with it at first; its success lets the others go.
    let mut requests = JoinSet::new();
    for _ in 0..30 {
        let client = client.clone();
        requests.spawn(async move { send(&client, get(API)).await.unwrap().status() });
    }
    assert!(requests.join_all().await.iter().all(|status| *status == 200));
    sleep(secs(1)).await;
    let status = tokens.status();
    assert_eq!((status.state(), status.failures()), (State::Fresh, 0));
    assert_eq!(tokens.current().unwrap().epoch(), status.epoch());
    let settled = fetches.load(Ordering::Relaxed);
    assert!(settled <= 3, "{settled}");
    sleep(secs(600)).await;
    assert_eq!(fetches.load(Ordering::Relaxed), settled, "it is as fresh as it ever was");
}

#[tokio::test(start_paused = true)]
async fn f77_another_token_ends_the_refusal() {
    let fetches = Arc::new(AtomicUsize::new(0));
    let tokens = TokenHandle::spawn(source_fn({
        let fetches = fetches.clone();
        move |_: FetchContext| {
            let name = match fetches.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => "same",
                _ => "other",
            };
            async move { Ok::<_, Error>(TokenSet::bearer(name)?.with_lifetime(HOUR)) }
        }
    }));
    tokens.ready().await.unwrap();
    let api = Api::new();
    api.accept(|token| token == "Bearer other");
    let client = layer(&tokens).replay(CloneRequest).layer(api.clone());
    assert_eq!(send(&client, get(API)).await.unwrap().status(), 200);
    assert_eq!((api.count(), fetches.load(Ordering::Relaxed)), (2, 3));
}

/// An API whose strict path refuses the only token that there is, and whose other path takes it.
#[derive(Clone)]
struct OneStrictPath;

impl tower::Service<http::Request<String>> for OneStrictPath {
    type Response = http::Response<String>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<String>) -> Self::Future {
        let mut response = http::Response::new(String::new());
        if request.uri().path() == "/strict" {
            *response.status_mut() = http::StatusCode::UNAUTHORIZED;
            let challenge = http::HeaderValue::from_static("Bearer error=invalid_token");
            response.headers_mut().insert("www-authenticate", challenge);
        }
        std::future::ready(Ok(response))
    }
}

// A success of the token that had been refused counted as the help of a renewal: its next refusal took
// it out of service again, hundreds of times an hour.
#[tokio::test(start_paused = true)]
async fn f75_f77_a_path_that_accepts_the_token_does_not_end_the_spacing_of_one_that_refuses_it() {
    let (tokens, fetches) = same();
    tokens.ready().await.unwrap();
    let client = layer(&tokens).replay(CloneRequest).layer(OneStrictPath);
    let mut waited = 0;
    for _ in 0..3600 {
        let strict = client.clone();
        tokio::spawn(async move { send(&strict, get("https://api.example/strict")).await });
        let started = Instant::now();
        tokio::task::yield_now().await;
        assert_eq!(send(&client, get(API)).await.unwrap().status(), 200);
        waited += usize::from(!started.elapsed().is_zero());
        sleep(secs(1)).await;
    }
    let fetches = fetches.load(Ordering::Relaxed);
    assert!(fetches <= 21, "{fetches} token requests");
    assert!(waited <= 1, "{waited} good requests waited");
}

/// A source that gives these tokens, and then the last of them.
fn these(names: &'static [&'static str], lifetime: std::time::Duration) -> TokenHandle {
    let fetches = AtomicUsize::new(0);
    TokenHandle::spawn(source_fn(move |_: FetchContext| {
        let name = names[fetches.fetch_add(1, Ordering::Relaxed).min(names.len() - 1)];
        async move { Ok::<_, Error>(TokenSet::bearer(name)?.with_lifetime(lifetime)) }
    }))
}

// A token that was refused, and that a source gave again after another one, took the place of that one.
#[tokio::test(start_paused = true)]
async fn f77_a_refused_token_does_not_take_the_place_of_another_one() {
    let tokens = these(&["refused", "good", "refused", "other"], HOUR);
    tokens.ready().await.unwrap();
    tokens.reject(1);
    let good = tokens.token().await.unwrap();
    assert_eq!(good.access_token().expose(), "good");
    let error = tokens.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnusableToken);
    assert_eq!(tokens.current().unwrap().access_token().expose(), "good");
    sleep(secs(60)).await;
    assert_eq!(tokens.current().unwrap().access_token().expose(), "other");
}

// Only the last refused token was remembered: the one before it came back from a store that could not
// be written in between.
#[tokio::test(start_paused = true)]
async fn f77_a_token_that_was_refused_before_the_last_one_stays_refused() {
    let tokens = these(&["first", "second", "first", "third"], HOUR);
    for name in ["first", "second"] {
        let token = tokens.token().await.unwrap();
        assert_eq!(token.access_token().expose(), name);
        // So that the next refusal takes the token out of service.
        sleep(secs(60)).await;
        tokens.reject(token.epoch());
        assert!(tokens.current().is_none());
    }
    assert_eq!(tokens.token().await.unwrap().access_token().expose(), "third");
}

#[cfg(feature = "pool")]
#[tokio::test(start_paused = true)]
async fn f77_a_tenants_refused_token_is_tried_by_one_request_and_comes_back() {
    use tower_oauth::{OAuthLayer, TokenPool};

    let fetches = Arc::new(AtomicUsize::new(0));
    let pool = TokenPool::builder({
        let fetches = fetches.clone();
        move |(): &()| {
            let fetches = fetches.clone();
            source_fn(move |_| {
                fetches.fetch_add(1, Ordering::Relaxed);
                async { Ok::<_, Error>(TokenSet::bearer("same")?.with_lifetime(HOUR)) }
            })
        }
    })
    .spawn();
    let key = |_: &http::Request<String>| Some(());
    let keyed = OAuthLayer::keyed(pool.clone(), API.parse().unwrap(), key);
    let api = Api::new();
    api.accept(|_| false).delay(millis(50));
    let client = keyed.replay(CloneRequest).layer(api.clone());
    let all = |n: usize| {
        let mut requests = JoinSet::new();
        for _ in 0..n {
            let client = client.clone();
            requests.spawn(async move { send(&client, get(API)).await });
        }
        requests
    };
    for outcome in all(30).join_all().await {
        assert_eq!(outcome.unwrap().status(), 401);
    }
    assert_eq!(api.count(), 30, "a request that was refused does not try it again");
    assert!(fetches.load(Ordering::Relaxed) <= 6, "{fetches:?} fetches");
    assert!(pool.status(&()).unwrap().failures() > 0);

    sleep(secs(60)).await;
    api.accept(|_| true);
    let accepted = all(30).join_all().await;
    assert!(accepted.iter().all(|outcome| outcome.as_ref().unwrap().status() == 200));
    assert_eq!(pool.status(&()).unwrap().state(), State::Fresh);
}

// A trial that nobody had begun was claimed long after its token had expired: a pool fetches for a
// tenant only while somebody asks.
#[cfg(feature = "pool")]
#[tokio::test(start_paused = true)]
async fn f77_a_refused_token_is_not_tried_after_its_expiry() {
    use tower_oauth::{OAuthLayer, TokenPool};

    let fetches = Arc::new(AtomicUsize::new(0));
    let pool = TokenPool::builder({
        let fetches = fetches.clone();
        move |(): &()| {
            let fetches = fetches.clone();
            source_fn(move |_| {
                let name = match fetches.fetch_add(1, Ordering::Relaxed) {
                    0..3 => "same",
                    _ => "other",
                };
                async move {
                    sleep(millis(100)).await;
                    Ok::<_, Error>(TokenSet::bearer(name)?.with_lifetime(secs(60)))
                }
            })
        }
    })
    .spawn();
    let key = |_: &http::Request<String>| Some(());
    let keyed = OAuthLayer::keyed(pool.clone(), API.parse().unwrap(), key);
    let api = Api::new();
    api.accept(|token| token == "Bearer other");
    let client = keyed.layer(api.clone());
    assert_eq!(send(&client, get(API)).await.unwrap().status(), 401);
    // The token is given for the second time again when the last request has lost its patience.
    let third = async {
        while fetches.load(Ordering::Relaxed) < 3 {
            sleep(millis(1)).await;
        }
    };
    tokio::select! {
        _ = pool.token(&()) => panic!("there is none"),
        () = third => {}
    }
    sleep(HOUR / 2).await;
    let before = api.count();
    assert_eq!(send(&client, get(API)).await.unwrap().status(), 200);
    assert_eq!(api.count(), before + 1, "sent with the new token only");
}

// Only a handle told its observers that the token is back.
#[cfg(feature = "pool")]
#[tokio::test(start_paused = true)]
async fn f77_a_pool_tells_its_observers_that_a_token_is_back_in_service() {
    use tower_oauth::{OAuthLayer, TokenPool, observe::Event};

    let obtained = Arc::new(std::sync::Mutex::new(Vec::new()));
    let pool = TokenPool::builder(|(): &()| {
        source_fn(|_| async { Ok::<_, Error>(TokenSet::bearer("same")?.with_lifetime(HOUR)) })
    })
    .tenant_observer({
        let obtained = obtained.clone();
        move |(), event: &Event<'_>| {
            if let Event::Obtained { epoch, .. } = event {
                obtained.lock().unwrap().push(*epoch);
            }
        }
    })
    .spawn();
    let key = |_: &http::Request<String>| Some(());
    let api = Api::new();
    api.accept(|_| false);
    let layer = OAuthLayer::keyed(pool.clone(), API.parse().unwrap(), key);
    let client = layer.layer(api.clone());
    assert_eq!(send(&client, get(API)).await.unwrap().status(), 401);
    api.accept(|_| true);
    assert_eq!(send(&client, get(API)).await.unwrap().status(), 200);
    let epoch = pool.status(&()).unwrap().epoch();
    assert_eq!(obtained.lock().unwrap().last(), Some(&epoch));
    assert_eq!(obtained.lock().unwrap().len(), 2);
}

/// Requests that do not wait come and go: one of them tries the refused token, and its success counts.
#[tokio::test(start_paused = true)]
async fn f77_a_request_that_does_not_wait_can_bring_a_refused_token_back() {
    let (tokens, _) = same();
    tokens.ready().await.unwrap();
    let api = Api::new();
    api.accept(|_| false);
    let client = layer(&tokens).fail_fast().layer(api.clone());
    assert_eq!(send(&client, get(API)).await.unwrap().status(), 401);
    api.accept(|_| true);
    let mut accepted = 0;
    for _ in 0..100 {
        accepted += usize::from(send(&client, get(API)).await.is_ok());
        sleep(millis(100)).await;
    }
    assert!(accepted > 50, "{accepted} of 100");
    assert_eq!(tokens.status().state(), State::Fresh);
}
