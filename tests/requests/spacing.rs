//! Renewals that do not help are ever further apart.

use std::time::Duration;

use http::Request;
use tokio::time::{Instant, sleep};
use tower::service_fn;
use tower_layer::Layer;
use tower_oauth::{
    CloneRequest, FetchContext, NoReplay, Rejection, TokenHandle, TokenSet,
    middleware::{Replay, SecondService},
    source_fn,
};

use super::{API, HOUR, get, layer, millis, secs, send};
use crate::common::{
    api::Api,
    script::{Script, Step},
};

const INVALID: &str = r#"Bearer realm="api", error="invalid_token""#;

type Answer = http::Response<String>;

/// An API with a path that refuses every token, and others that are healthy.
fn one_bad_path(
    challenge: Option<&'static str>,
) -> impl tower::Service<
    Request<String>,
    Response = Answer,
    Error = std::convert::Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static {
    service_fn(move |request: Request<String>| async move {
        let mut response = Answer::default();
        if request.uri().path() == "/bad" {
            *response.status_mut() = http::StatusCode::UNAUTHORIZED;
            if let Some(challenge) = challenge {
                let challenge = http::HeaderValue::from_static(challenge);
                response.headers_mut().insert("www-authenticate", challenge);
            }
        }
        Ok(response)
    })
}

/// An hour of a request a second on a bad path and on a good one. Returns how many token requests
/// there were, and the good requests that took longer than they should.
async fn an_hour<R>(challenge: Option<&'static str>, policy: R) -> (usize, usize)
where
    R: Replay<Request<String>, Sent = Request<String>> + Send + 'static,
    R: SecondService<
        tower::util::BoxCloneService<Request<String>, Answer, std::convert::Infallible>,
    >,
{
    let source = Script::new(Step::Take(millis(300), Box::new(Step::Token(HOUR * 24))));
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    let below = tower::ServiceExt::boxed_clone(one_bad_path(challenge));
    let client = layer(&tokens).replay(policy).layer(below);
    let mut stalled = 0;
    for _ in 0..3600 {
        let started = Instant::now();
        let bad = tokio::spawn({
            let client = client.clone();
            async move { send(&client, get("https://api.example/bad")).await }
        });
        tokio::task::yield_now().await;
        send(&client, get("https://api.example/good")).await.unwrap();
        stalled += usize::from(!started.elapsed().is_zero());
        assert_eq!(bad.await.unwrap().unwrap().status(), 401);
        sleep(secs(1).saturating_sub(started.elapsed())).await;
    }
    (source.count(), stalled)
}

#[tokio::test(start_paused = true)]
async fn f75_a_path_that_refuses_every_token_causes_few_renewals_and_stalls_no_other() {
    for challenge in [Some(INVALID), None] {
        for (name, (requests, stalled)) in [
            ("without replay", an_hour(challenge, NoReplay).await),
            ("with replay", an_hour(challenge, CloneRequest).await),
        ] {
            assert!(requests <= 20, "{name}, {challenge:?}: {requests} token requests");
            // The first refusal is believed: it takes the token out of service.
            assert!(stalled <= 1, "{name}, {challenge:?}: {stalled} good requests stalled");
        }
    }
}

/// Gives tokens that are named after the moment of their issue, in milliseconds.
fn dated() -> (TokenHandle, std::sync::Arc<std::sync::Mutex<Vec<Instant>>>) {
    let issued = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let source = source_fn({
        let (issued, start) = (issued.clone(), Instant::now());
        move |_: FetchContext| {
            issued.lock().unwrap().push(Instant::now());
            let name = format!("at-{}", start.elapsed().as_millis());
            async move { Ok::<_, tower_oauth::Error>(TokenSet::bearer(name)?.with_lifetime(HOUR)) }
        }
    });
    (TokenHandle::spawn(source), issued)
}

/// An API that refuses each token for its first while.
fn lagging(api: &Api, start: Instant, lag: Duration) {
    api.accept(move |token| {
        let issued = token.strip_prefix("Bearer at-").unwrap().parse().unwrap();
        start.elapsed() >= Duration::from_millis(issued) + lag
    });
}

#[tokio::test(start_paused = true)]
async fn f76_an_api_that_refuses_new_tokens_for_a_while_is_not_kept_from_accepting_one() {
    for (lag, reason, within) in [
        (millis(1500), true, millis(1500)),
        (millis(1500), false, millis(1500)),
        (secs(12), true, secs(26)),
        (secs(12), false, secs(22)),
    ] {
        for replays in [true, false] {
            let start = Instant::now();
            let (tokens, issued) = dated();
            tokens.ready().await.unwrap();
            let api = Api::new();
            lagging(&api, start, lag);
            if !reason {
                api.refuse_with(401, &[]);
            }
            let kept = layer(&tokens).replay(CloneRequest).layer(api.clone());
            let plain = layer(&tokens).layer(api.clone());
            let mut recovered = None;
            while start.elapsed() < secs(120) {
                let answer = if replays {
                    send(&kept, get(API)).await
                } else {
                    send(&plain, get(API)).await
                };
                match answer.unwrap().status().as_u16() {
                    200 => recovered = recovered.or(Some(start.elapsed())),
                    _ => assert!(recovered.is_none(), "refused again at {:?}", start.elapsed()),
                }
                sleep(millis(100)).await;
            }
            let case = format!("{lag:?}, reason {reason}, replays {replays}");
            let recovered = recovered.unwrap_or_else(|| panic!("never recovers: {case}"));
            // The next token is fetched half a second after the last one.
            assert!(recovered <= within + millis(700), "after {recovered:?}: {case}");
            let early = issued.lock().unwrap().iter().filter(|at| **at - start <= secs(15)).count();
            assert!(early <= 5, "{early} token requests in 15 s: {case}");
        }
    }
}

#[cfg(feature = "pool")]
#[tokio::test(start_paused = true)]
async fn f76_a_tenant_recovers_as_a_handle_does() {
    use tower_oauth::{OAuthLayer, TokenPool};

    for (lag, within) in [(millis(1500), millis(1500)), (secs(12), secs(26))] {
        let start = Instant::now();
        let pool = TokenPool::builder(move |(): &()| {
            source_fn(move |_| async move {
                let name = format!("at-{}", start.elapsed().as_millis());
                Ok::<_, tower_oauth::Error>(TokenSet::bearer(name)?.with_lifetime(HOUR))
            })
        })
        .spawn();
        pool.token(&()).await.unwrap();
        let api = Api::new();
        lagging(&api, start, lag);
        let layer = OAuthLayer::keyed(pool, API.parse().unwrap(), |_: &Request<String>| Some(()));
        let client = layer.replay(CloneRequest).layer(api.clone());
        let mut recovered = None;
        while start.elapsed() < secs(60) {
            if send(&client, get(API)).await.unwrap().status() == 200 {
                recovered = recovered.or(Some(start.elapsed()));
            }
            sleep(millis(100)).await;
        }
        assert!(recovered.unwrap() <= within + millis(700), "{recovered:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn f75_a_renewal_that_helped_starts_the_spacing_anew() {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    let api = Api::new();
    let client = layer(&tokens).replay(CloneRequest).layer(api.clone());
    // Revoked every 3 s, for a minute: each time the next token is good.
    for n in 2..22 {
        let good = format!("Bearer token-{n}");
        api.accept(move |token| token == good);
        assert_eq!(send(&client, get(API)).await.unwrap().status(), 200, "token {n}");
        sleep(secs(3)).await;
    }
    assert_eq!(source.count(), 21);
}

#[tokio::test(start_paused = true)]
async fn f75_a_token_that_is_renewed_in_service_is_refused_to_nobody() {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    assert_eq!(tokens.reject(1), Rejection::Accepted);
    let epoch = tokens.token().await.unwrap().epoch();
    sleep(secs(2)).await;
    source.then([Step::Take(secs(5), Box::new(Step::Token(HOUR)))]);
    assert_eq!(tokens.reject(epoch), Rejection::Renewing);
    assert_eq!(tokens.reject(epoch), Rejection::Renewing, "as long as it is being renewed");
    sleep(secs(4)).await;
    assert_eq!(tokens.current().unwrap().epoch(), epoch);
    sleep(secs(2)).await;
    assert!(tokens.current().unwrap().epoch() > epoch);
    assert_eq!(tokens.reject(epoch), Rejection::Superseded);
    assert_eq!(source.count(), 3);
}

/// A bad path and a good one, each asked once a second, as long as this. Returns how many good requests
/// waited in the second half.
async fn stalled_later(tokens: &TokenHandle, seconds: u64, period: Duration) -> usize {
    let below = tower::ServiceExt::boxed_clone(one_bad_path(Some(INVALID)));
    let client = layer(tokens).layer(below);
    let start = Instant::now();
    let mut goods = tokio::task::JoinSet::new();
    while start.elapsed() < secs(seconds) {
        let (bad, good) = (client.clone(), client.clone());
        tokio::spawn(async move { send(&bad, get("https://api.example/bad")).await });
        tokio::task::yield_now().await;
        let late = start.elapsed() > secs(seconds) / 2;
        goods.spawn(async move {
            let started = Instant::now();
            let outcome = send(&good, get("https://api.example/good")).await;
            late && (outcome.is_err() || !started.elapsed().is_zero())
        });
        sleep(period).await;
    }
    goods.join_all().await.into_iter().filter(|stalled| *stalled).count()
}

// The time in which the authorization server did not answer counted as quiet, so that the new token's
// first refusal took it out of service, and every other path waited again.
#[tokio::test(start_paused = true)]
async fn f75_a_slow_renewal_is_no_quiet_time() {
    let source = Script::new(Step::Take(millis(29_800), Box::new(Step::Token(HOUR * 24))));
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    let stalled = stalled_later(&tokens, 1200, millis(700)).await;
    assert_eq!(stalled, 0, "{stalled} good requests waited");

    let source = Script::tokens(HOUR * 24);
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    source.then((0..8).map(|_| crate::common::script::fail(tower_oauth::ErrorKind::Server)));
    source.then([Step::Take(millis(29_000), Box::new(Step::Token(HOUR)))]);
    let stalled = stalled_later(&tokens, 600, secs(1)).await;
    assert_eq!(stalled, 0, "{stalled} good requests waited");
}

// Refusals that came while the token was renewed asked for another renewal each time, which was made
// at once if the source gave the same token again.
#[tokio::test(start_paused = true)]
async fn f75_refusals_during_a_renewal_ask_for_no_other_one() {
    let source = Script::tokens(HOUR);
    let renewing = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let events = renewing.clone();
    let tokens = TokenHandle::builder(source.clone())
        .observer(move |event: &tower_oauth::observe::Event<'_>| {
            let is_renewing = matches!(event, tower_oauth::observe::Event::Renewing { .. });
            events.fetch_add(usize::from(is_renewing), std::sync::atomic::Ordering::Relaxed);
        })
        .spawn();
    tokens.ready().await.unwrap();
    assert_eq!(tokens.reject(1), Rejection::Accepted);
    let epoch = tokens.token().await.unwrap().epoch();
    sleep(secs(2)).await;
    source.then([Step::Take(secs(1), Box::new(Step::Again(HOUR)))]);
    for _ in 0..5 {
        assert_eq!(tokens.reject(epoch), Rejection::Renewing);
        sleep(millis(150)).await;
    }
    sleep(secs(3)).await;
    assert_eq!(tokens.current().unwrap().epoch(), epoch, "the source gave it again");
    assert_eq!(source.count(), 3);
    assert_eq!(renewing.load(std::sync::atomic::Ordering::Relaxed), 1);
}

/// A renewal that failed left the refused token in service for the rest of its life: the failure stood for
/// a renewal under way.
#[tokio::test(start_paused = true)]
async fn f75_a_renewal_in_service_that_fails_is_tried_again() {
    use crate::common::script::fail;
    use tower_oauth::ErrorKind;

    for kind in [ErrorKind::Transport, ErrorKind::InvalidClient] {
        let source = Script::tokens(HOUR);
        let tokens = TokenHandle::spawn(source.clone());
        tokens.ready().await.unwrap();
        let api = Api::new();
        api.accept(|_| false);
        let client = layer(&tokens).layer(api.clone());
        let request_for = |seconds: u64| {
            let client = client.clone();
            async move {
                for _ in 0..seconds {
                    send(&client, get(API)).await.unwrap();
                    sleep(secs(1)).await;
                }
            }
        };
        request_for(5).await;
        source.then([fail(kind)]);
        request_for(10).await;
        api.accept(|token| token > "Bearer token-3");
        request_for(150).await;
        assert_eq!(send(&client, get(API)).await.unwrap().status(), 200, "{kind}");
    }
}

#[cfg(feature = "pool")]
#[tokio::test(start_paused = true)]
async fn f75_a_tenants_renewal_in_service_that_fails_is_tried_again() {
    use crate::common::script::fail;
    use tower_oauth::{ErrorKind, OAuthLayer, TokenPool};

    for kind in [ErrorKind::Transport, ErrorKind::InvalidClient] {
        let source = Script::tokens(HOUR);
        let script = source.clone();
        let pool = TokenPool::builder(move |(): &()| script.clone()).spawn();
        pool.token(&()).await.unwrap();
        let api = Api::new();
        api.accept(|_| false);
        let key = |_: &Request<String>| Some(());
        let client = OAuthLayer::keyed(pool, API.parse().unwrap(), key).layer(api.clone());
        for second in 0..170 {
            match second {
                5 => drop(source.then([fail(kind)])),
                15 => drop(api.accept(|token| token > "Bearer token-3")),
                _ => {}
            }
            send(&client, get(API)).await.unwrap();
            sleep(secs(1)).await;
        }
        assert_eq!(send(&client, get(API)).await.unwrap().status(), 200, "{kind}");
    }
}
