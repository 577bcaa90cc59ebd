//! The layer: what reaches the API, what comes back, and what a refusal causes.
#![cfg(test)]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]

use log_watch as _;

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{
    api::Api,
    script::{Script, Step, fail},
};
use http::{Request, Response, StatusCode, header};
use tokio::{task::JoinSet, time::sleep};
use tower::{Service, ServiceExt};
use tower_layer::Layer;
use tower_oauth::{
    BoxError, CloneRequest, Error, ErrorKind, ExistingAuthorization, ForeignOrigin, Idempotent,
    NoReplay, OAuth, OAuthLayer, Origins, State, TokenHandle, observe::Event,
};

const HOUR: Duration = Duration::from_secs(3600);
const API: &str = "https://api.example";

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

struct Setup<R = NoReplay> {
    source: Script,
    tokens: TokenHandle,
    api: Api,
    client: OAuth<Api, R>,
}

/// A client with a token of an hour.
async fn setup() -> Setup {
    setup_with(|layer| layer).await
}

async fn setup_with<R: Clone>(configure: impl FnOnce(OAuthLayer) -> OAuthLayer<R>) -> Setup<R> {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    let api = Api::new();
    let layer = configure(OAuthLayer::new(tokens.clone(), API.parse().unwrap()));
    let client = layer.layer(api.clone());
    Setup { source, tokens, api, client }
}

fn get(url: &str) -> Request<String> {
    Request::get(url).body(String::new()).unwrap()
}

fn post(body: &str) -> Request<String> {
    Request::post(API).body(body.to_owned()).unwrap()
}

async fn send<S>(client: &S, request: Request<String>) -> Result<Response<String>, BoxError>
where
    S: Service<Request<String>, Response = Response<String>, Error = BoxError> + Clone,
{
    client.clone().oneshot(request).await
}

fn ours(error: &BoxError) -> &Error {
    Error::find(&**error).expect("the error is ours")
}

fn kind(error: &BoxError) -> ErrorKind {
    ours(error).kind()
}

mod injection {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn inj_01_one_bearer_header_and_nothing_else_is_added() {
        let s = setup().await;
        let mut request = get("https://api.example/a?b=c");
        request.headers_mut().insert("x-kept", "as it was".parse().unwrap());
        send(&s.client, request).await.unwrap();
        let [seen] = s.api.seen().try_into().ok().unwrap();
        assert_eq!(seen.authorization(), Some("Bearer token-1"));
        assert!(seen.headers[header::AUTHORIZATION].is_sensitive());
        assert_eq!(seen.headers["x-kept"], "as it was");
        assert_eq!(seen.headers.len(), 2);
        assert_eq!(seen.uri, "https://api.example/a?b=c");
    }

    #[tokio::test(start_paused = true)]
    async fn inj_02_f19_a_header_that_is_there_follows_the_policy() {
        let with_header = || {
            let mut request = get(API);
            request.headers_mut().append(header::AUTHORIZATION, "Basic YTpi".parse().unwrap());
            request
        };
        let s = setup().await;
        send(&s.client, with_header()).await.unwrap();
        assert_eq!(s.api.seen()[0].authorization(), Some("Basic YTpi"));

        let s = setup_with(|l| l.existing_authorization(ExistingAuthorization::Replace)).await;
        send(&s.client, with_header()).await.unwrap();
        assert_eq!(s.api.seen()[0].authorization(), Some("Bearer token-1"));

        let s = setup_with(|l| l.existing_authorization(ExistingAuthorization::Refuse)).await;
        let error = send(&s.client, with_header()).await.unwrap_err();
        assert_eq!(kind(&error), ErrorKind::AuthorizationPresent);
        assert_eq!(s.api.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn inj_02_a_refusal_of_the_callers_own_header_is_the_callers() {
        let s = setup_with(|l| l.replay(CloneRequest)).await;
        s.api.accept(|_| false);
        let mut request = get(API);
        request.headers_mut().insert(header::AUTHORIZATION, "Bearer theirs".parse().unwrap());
        assert_eq!(send(&s.client, request).await.unwrap().status(), 401);
        sleep(secs(5)).await;
        assert_eq!((s.api.count(), s.source.count()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn inj_03_other_origins_get_no_token() {
        let s = setup().await;
        let foreign = ["https://evil.example/", "http://api.example/", "https://api.example:444/"];
        for url in foreign {
            send(&s.client, get(url)).await.unwrap();
        }
        assert!(s.api.seen().iter().all(|seen| seen.authorization().is_none()));

        let s = setup_with(|l| l.foreign_origin(ForeignOrigin::Refuse)).await;
        for url in foreign {
            let error = send(&s.client, get(url)).await.unwrap_err();
            assert_eq!(kind(&error), ErrorKind::Origin);
        }
        assert_eq!(s.api.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_for_a_path_alone_gets_the_token() {
        let s = setup().await;
        send(&s.client, get("/grpc.Service/Method")).await.unwrap();
        assert_eq!(s.api.seen()[0].authorization(), Some("Bearer token-1"));
    }

    #[tokio::test(start_paused = true)]
    async fn inj_07_status_headers_body_and_extensions_pass_untouched() {
        #[derive(Clone, Debug, PartialEq)]
        struct Mark(u8);
        let inner = tower::service_fn(|request: Request<String>| async move {
            assert_eq!(request.extensions().get(), Some(&Mark(1)));
            let mut response = Response::new(request.into_body());
            *response.status_mut() = StatusCode::IM_A_TEAPOT;
            response.headers_mut().append("x-two", "a".parse().unwrap());
            response.headers_mut().append("x-two", "b".parse().unwrap());
            response.extensions_mut().insert(Mark(2));
            Ok::<_, BoxError>(response)
        });
        let s = setup().await;
        let client = OAuthLayer::new(s.tokens, API.parse().unwrap()).layer(inner);
        let mut request = post("the body");
        request.extensions_mut().insert(Mark(1));
        let response = send(&client, request).await.unwrap();
        assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
        assert_eq!(response.headers().get_all("x-two").iter().count(), 2);
        assert_eq!(response.extensions().get(), Some(&Mark(2)));
        assert_eq!(response.into_body(), "the body");
    }

    #[tokio::test(start_paused = true)]
    async fn errors_of_the_service_below_keep_their_type() {
        #[derive(Debug, PartialEq)]
        struct Theirs;
        impl std::fmt::Display for Theirs {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("theirs")
            }
        }
        impl std::error::Error for Theirs {}
        let inner =
            tower::service_fn(|_: Request<String>| async { Err::<Response<String>, _>(Theirs) });
        let s = setup().await;
        let client = OAuthLayer::new(s.tokens, API.parse().unwrap()).layer(inner);
        let error = send(&client, get(API)).await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Theirs));
    }
}

mod waiting {
    use super::*;

    fn without_token(step: Step) -> Setup<CloneRequest> {
        let source = Script::tokens(HOUR);
        source.then([step]);
        let tokens = TokenHandle::spawn(source.clone());
        let api = Api::new();
        let layer = OAuthLayer::new(tokens.clone(), API.parse().unwrap()).replay(CloneRequest);
        let client = layer.wait(secs(29)).layer(api.clone());
        Setup { source, tokens, api, client }
    }

    #[tokio::test(start_paused = true)]
    async fn rfr_03_a_thousand_requests_at_start_share_one_fetch() {
        let s = without_token(Step::Take(secs(2), Box::new(Step::Token(HOUR))));
        let mut requests = JoinSet::new();
        for _ in 0..1000 {
            let client = s.client.clone();
            requests.spawn(async move { send(&client, get(API)).await.unwrap().status() });
        }
        assert!(requests.join_all().await.iter().all(|status| *status == 200));
        assert_eq!((s.api.count(), s.source.count()), (1000, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_may_wait_for_ever() {
        let s = without_token(Step::Take(secs(20), Box::new(Step::Token(HOUR))));
        let layer = OAuthLayer::new(s.tokens.clone(), API.parse().unwrap()).wait(Duration::MAX);
        assert_eq!(send(&layer.layer(s.api.clone()), get(API)).await.unwrap().status(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn rfr_03_a_thousand_requests_at_expiry_share_one_fetch() {
        let s = without_token(Step::Token(secs(100)));
        s.tokens.ready().await.unwrap();
        // The renewal takes longer than the rest of the token's life.
        s.source.then([Step::Take(secs(27), Box::new(Step::Token(HOUR)))]);
        let mut status = s.tokens.subscribe();
        status.wait_for(|status| status.state() == State::Expired).await.unwrap();
        let mut requests = JoinSet::new();
        for _ in 0..1000 {
            let client = s.client.clone();
            requests.spawn(async move { send(&client, get(API)).await.unwrap().status() });
        }
        assert!(requests.join_all().await.iter().all(|status| *status == 200));
        assert!(s.api.seen().iter().all(|seen| seen.authorization() == Some("Bearer token-2")));
        assert_eq!((s.api.count(), s.source.count()), (1000, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_goes_out_without_a_token() {
        let s = without_token(Step::Hang);
        let start = tokio::time::Instant::now();
        let error = send(&s.client, get(API)).await.unwrap_err();
        assert_eq!(kind(&error), ErrorKind::Timeout);
        assert_eq!(start.elapsed(), secs(29));
        assert_eq!(s.api.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn f03_f66_after_an_expiry_in_an_outage_requests_wait_and_then_resume() {
        let s = without_token(Step::Token(secs(100)));
        send(&s.client, get(API)).await.unwrap();
        s.source.otherwise(fail(ErrorKind::Server));
        sleep(secs(98)).await;
        let error = send(&s.client, get(API)).await.unwrap_err();
        assert_eq!(kind(&error), ErrorKind::Timeout);
        let cause = std::error::Error::source(ours(&error)).expect("it says what failed");
        assert_eq!(cause.downcast_ref::<Error>().map(Error::kind), Some(ErrorKind::Server));
        assert_eq!(s.api.count(), 1);
        // One that waits while the server comes back gets its token.
        s.source.otherwise(Step::Token(secs(100)));
        send(&s.client, get(API)).await.unwrap();
        assert_eq!(s.api.count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_waited_is_replayed_like_any_other() {
        let s = without_token(Step::Take(secs(2), Box::new(Step::Token(HOUR))));
        s.api.accept(|token| token == "Bearer token-2");
        assert_eq!(send(&s.client, post("body")).await.unwrap().status(), 200);
        assert_eq!((s.api.count(), s.source.count()), (2, 2));
    }
}

mod refusal {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn f16_rfr_10_a_thousand_refused_requests_share_one_fetch_and_are_replayed_once() {
        let s = setup_with(|l| l.replay(CloneRequest)).await;
        s.api.accept(|token| token == "Bearer token-2").delay(Duration::from_millis(50));
        let mut requests = JoinSet::new();
        for n in 0..1000 {
            let client = s.client.clone();
            requests.spawn(async move {
                let response = send(&client, post(&format!("body {n}"))).await.unwrap();
                response.status()
            });
        }
        assert!(requests.join_all().await.iter().all(|status| *status == 200));
        assert_eq!((s.api.count(), s.source.count()), (2000, 2));
        let mut bodies: Vec<_> = s.api.seen().into_iter().map(|seen| seen.body).collect();
        bodies.sort();
        bodies.dedup();
        assert_eq!(bodies.len(), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn rfr_10_the_second_refusal_is_returned_as_it_is() {
        let s = setup_with(|l| l.replay(CloneRequest)).await;
        s.api.accept(|_| false);
        let response = send(&s.client, post("body")).await.unwrap();
        assert_eq!(response.status(), 401);
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
        let sent: Vec<_> =
            s.api.seen().iter().map(|seen| seen.authorization().unwrap().to_owned()).collect();
        assert_eq!(sent, ["Bearer token-1", "Bearer token-2"]);
        sleep(secs(5)).await;
        assert_eq!(s.source.count(), 2);
    }

    /// Ten minutes of an API that refuses everything, while the token endpoint keeps issuing.
    #[tokio::test(start_paused = true)]
    async fn f17_an_api_that_refuses_for_ever_causes_one_fetch_a_second() {
        let s = setup_with(|l| l.replay(CloneRequest)).await;
        s.api.accept(|_| false);
        let start = tokio::time::Instant::now();
        let mut requests = 0;
        while start.elapsed() < secs(600) {
            assert_eq!(send(&s.client, get(API)).await.unwrap().status(), 401);
            requests += 1;
            sleep(Duration::from_millis(10)).await;
        }
        assert!(s.source.count() <= 602, "{}", s.source.count());
        assert!(s.api.count() <= 2 * requests, "one replay per request");
        assert!(requests > 50_000, "requests do not wait for the cool-down: {requests}");
    }

    /// A bare one says nothing of the newer token either, however young that is.
    #[tokio::test(start_paused = true)]
    async fn f18_a_late_refusal_of_an_older_token_is_replayed_without_a_fetch() {
        for bare in [false, true] {
            let s = setup_with(|l| l.replay(CloneRequest)).await;
            s.api.accept(|token| token != "Bearer token-1").delay(secs(5));
            if bare {
                s.api.refuse_with(401, &[]);
            }
            let request = tokio::spawn({
                let client = s.client.clone();
                async move { send(&client, get(API)).await.unwrap().status() }
            });
            sleep(secs(1)).await;
            s.tokens.refresh().await.unwrap();
            assert_eq!(request.await.unwrap(), 200);
            assert_eq!((s.api.count(), s.source.count()), (2, 2));
            assert_eq!(s.tokens.token().await.unwrap().epoch(), 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f18_a_late_refusal_of_a_token_that_was_given_again_is_its_own() {
        let s = setup_with(|l| l.replay(CloneRequest)).await;
        s.api.accept(|token| token != "Bearer token-1").delay(secs(5));
        let request = tokio::spawn({
            let client = s.client.clone();
            async move { send(&client, get(API)).await.unwrap().status() }
        });
        sleep(secs(1)).await;
        s.source.then([Step::Again(HOUR)]);
        assert_eq!(s.tokens.refresh().await.unwrap().epoch(), 1);
        assert_eq!(request.await.unwrap(), 200);
        assert_eq!((s.api.count(), s.source.count()), (2, 3));
        assert_eq!(s.tokens.token().await.unwrap().epoch(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn f18_a_token_that_is_given_again_is_as_old_as_it_was() {
        let s = setup_with(|l| l.replay(CloneRequest)).await;
        s.api.accept(|token| token != "Bearer token-1").refuse_with(401, &[]);
        sleep(secs(600)).await;
        s.source.then([Step::Again(HOUR)]);
        s.tokens.refresh().await.unwrap();
        // A bare refusal of a token as young as its last fetch would not count.
        assert_eq!(send(&s.client, get(API)).await.unwrap().status(), 200);
        assert_eq!((s.api.count(), s.source.count()), (2, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn rfr_11_without_replay_the_caller_gets_the_refusal_and_the_next_request_a_fresh_token()
    {
        let s = setup().await;
        s.api.accept(|token| token == "Bearer token-2");
        assert_eq!(send(&s.client, post("body")).await.unwrap().status(), 401);
        assert_eq!(s.api.count(), 1);
        assert!(s.tokens.current().is_none(), "the refused token is out of service");
        assert_eq!(send(&s.client, post("body")).await.unwrap().status(), 200);
        assert_eq!((s.api.count(), s.source.count()), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn idempotent_replays_only_methods_that_may_be_repeated() {
        for (method, expected) in
            [("GET", 200), ("PUT", 200), ("DELETE", 200), ("POST", 401), ("PATCH", 401)]
        {
            let s = setup_with(|l| l.replay(Idempotent(CloneRequest))).await;
            s.api.accept(|token| token == "Bearer token-2");
            let request = Request::builder().method(method).uri(API).body("x".to_owned()).unwrap();
            assert_eq!(send(&s.client, request).await.unwrap().status(), expected, "{method}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn if_no_newer_token_can_be_had_the_refusal_is_the_answer() {
        let s = setup_with(|l| l.replay(CloneRequest)).await;
        s.api.accept(|_| false);
        s.source.otherwise(fail(ErrorKind::InvalidClient));
        let response = send(&s.client, get(API)).await.unwrap();
        assert_eq!(response.status(), 401);
        assert_eq!((s.api.count(), s.source.count()), (1, 2));
    }

    /// Status, fields, the token's age, and how many tokens are fetched beside the first.
    type Case<'a> = (u16, &'a [(&'static str, &'static str)], u64, usize);

    /// What a refusal causes, by status and challenge: how often the API is called, and how many
    /// tokens are fetched.
    #[tokio::test(start_paused = true)]
    async fn cha_04_cha_05_cha_06_f19_f74_each_refusal_causes_what_it_should() {
        let www = header::WWW_AUTHENTICATE.as_str();
        let cases: &[Case<'_>] = &[
            (401, &[(www, r#"Bearer error="invalid_token""#)], 0, 1),
            (401, &[(www, "bEaReR ERROR=invalid_token")], 0, 1),
            (401, &[(www, r#"DPoP error="invalid_token""#)], 0, 1),
            (401, &[(www, r#"Basic realm="x""#), (www, r#"Bearer error="invalid_token""#)], 0, 1),
            (401, &[(www, r#"Bearer error="insufficient_scope""#)], 60, 0),
            (401, &[(www, r#"Bearer error="invalid_request""#)], 60, 0),
            (401, &[(www, r#"Bearer error="insufficient_user_authentication""#)], 60, 0),
            (401, &[(www, r#"DPoP error="use_dpop_nonce""#)], 60, 0),
            // Malformed: as one without a reason, unless it says invalid_token before its fault.
            (401, &[(www, r#"Bearer realm="unterminated"#)], 5, 0),
            (401, &[(www, r#"Bearer realm="unterminated"#)], 60, 1),
            (401, &[(www, r#"OAuth "Facebook Platform" "invalid_token" "x""#)], 60, 1),
            (401, &[(www, "Bearer authorization_uri=https://login.example/x")], 60, 1),
            (401, &[(www, r#"Bearer error="invalid_token" error_description="x""#)], 0, 1),
            (401, &[(www, r#"Basic realm=My Realm, Bearer error="invalid_token""#)], 0, 1),
            (401, &[(www, r#"Basic realm="x"#), (www, "Bearer error=invalid_token")], 0, 1),
            (401, &[(www, r#"Bearer error="invalid_request" error_description="x""#)], 5, 0),
            (401, &[(www, r#"Bearer error="invalid_request" error_description="x""#)], 60, 1),
            (401, &[(www, r#"Bearer realm="a, error=\"invalid_token\"""#)], 5, 0),
            (401, &[(www, r#"Bearer realm="x""#)], 5, 0),
            (401, &[(www, r#"Bearer realm="x""#)], 60, 1),
            (401, &[], 5, 0),
            (401, &[], 60, 1),
            (200, &[("content-type", "application/grpc"), ("grpc-status", "16")], 5, 0),
            (200, &[("content-type", "application/grpc"), ("grpc-status", "16")], 60, 1),
            (200, &[("content-type", "application/grpc-web"), ("grpc-status", "16")], 60, 1),
            (200, &[("content-type", "application/grpc"), ("grpc-status", "7")], 60, 0),
            (200, &[("content-type", "text/html"), ("grpc-status", "16")], 60, 0),
            (200, &[("grpc-status", "16")], 60, 0),
            (403, &[(www, r#"Bearer error="invalid_token""#)], 60, 0),
            (403, &[(www, r#"Bearer error="insufficient_scope""#)], 60, 0),
            (400, &[(www, r#"Bearer error="invalid_token""#)], 60, 0),
            (429, &[("retry-after", "1")], 60, 0),
            (503, &[("retry-after", "1")], 60, 0),
        ];
        for (status, fields, age, fetches) in cases {
            let s = setup_with(|l| l.replay(CloneRequest)).await;
            sleep(secs(*age)).await;
            s.api.accept(|_| false);
            let fields: Vec<_> = fields.to_vec();
            s.api.refuse_with(*status, fields.leak());
            // As gRPC sends all of its requests.
            let response = send(&s.client, post("")).await.unwrap();
            assert_eq!(response.status(), *status);
            sleep(secs(5)).await;
            let case = format!("{status} {:?} at {age} s", response.headers());
            assert_eq!(s.source.count(), 1 + fetches, "token requests: {case}");
            assert_eq!(s.api.count(), 1 + fetches, "requests: {case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rty_03_throttling_by_the_api_is_the_callers_business() {
        let s = setup_with(|l| l.replay(CloneRequest)).await;
        s.api.accept(|_| false).refuse_with(429, &[("retry-after", "5")]);
        for _ in 0..100 {
            assert_eq!(send(&s.client, get(API)).await.unwrap().status(), 429);
        }
        assert_eq!((s.api.count(), s.source.count()), (100, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn f22_a_caller_that_goes_away_between_refusal_and_replay_changes_nothing() {
        let s = setup_with(|l| l.replay(CloneRequest)).await;
        s.api.accept(|token| token == "Bearer token-2");
        s.source.then([Step::Take(secs(3), Box::new(Step::Token(HOUR)))]);
        for polls in 1..6 {
            let mut request = tokio_test::task::spawn(send(&s.client, get(API)));
            for _ in 0..polls {
                let _ = request.poll();
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(send(&s.client, get(API)).await.unwrap().status(), 200);
        assert_eq!(s.source.count(), 2);
    }
}

mod without_a_token {
    use super::*;

    type Passed = Arc<Mutex<Vec<String>>>;

    /// A client with a token, and what is reported of its requests without one.
    async fn reported(
        configure: impl FnOnce(TokenHandle) -> OAuthLayer,
    ) -> (OAuth<Api>, Api, Passed) {
        let passed = Passed::default();
        let seen = passed.clone();
        let tokens = TokenHandle::builder(Script::tokens(HOUR))
            .observer(move |event: &Event<'_>| {
                if let Event::PassedWithoutToken { reason, origin } = event {
                    let origin = origin.map_or("none".to_owned(), |origin| origin.to_string());
                    seen.lock().unwrap().push(format!("{reason} {origin}"));
                }
            })
            .spawn();
        tokens.ready().await.unwrap();
        let api = Api::new();
        (configure(tokens).layer(api.clone()), api, passed)
    }

    fn with(name: header::HeaderName, value: &str, url: &str) -> Request<String> {
        let mut request = get(url);
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    }

    fn with_method(method: &str, url: &str) -> Request<String> {
        Request::builder().method(method).uri(url).body(String::new()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn f80_each_is_reported_with_its_reason_and_origin() {
        let (client, api, passed) =
            reported(|tokens| OAuthLayer::new(tokens, API.parse().unwrap())).await;
        let foreign = "https://user:hunter2@evil.example:8443/path?query";
        let requests = [
            (get(foreign), "foreign_origin https://evil.example:8443"),
            (get("https://api.example./"), "foreign_origin https://api.example."),
            (with(header::HOST, "evil.example:8443", "/a"), "foreign_origin evil.example:8443"),
            (with(header::HOST, "a,b", "/a"), "foreign_origin a,b"),
            (
                with(header::AUTHORIZATION, "Basic abc", API),
                "authorization_present https://api.example",
            ),
            (with_method("TRACE", API), "method https://api.example"),
            (with_method("CONNECT", "api.example:443"), "method api.example:443"),
        ];
        for (request, expected) in requests {
            send(&client, request).await.unwrap();
            assert_eq!(passed.lock().unwrap().drain(..).collect::<Vec<_>>(), [expected]);
        }
        assert!(api.seen().iter().all(|seen| seen.authorization() != Some("Bearer token-1")));
        // One that gets a token is not.
        for url in [API, "https://API.EXAMPLE/", "/a"] {
            send(&client, get(url)).await.unwrap();
            assert_eq!(api.seen().last().unwrap().authorization(), Some("Bearer token-1"), "{url}");
        }
        assert!(passed.lock().unwrap().is_empty());
    }

    /// The caller has the error.
    #[tokio::test(start_paused = true)]
    async fn f80_a_request_that_is_refused_is_not_reported() {
        let (client, api, passed) = reported(|tokens| {
            OAuthLayer::new(tokens, API.parse().unwrap())
                .foreign_origin(ForeignOrigin::Refuse)
                .existing_authorization(ExistingAuthorization::Refuse)
        })
        .await;
        let present = with(header::AUTHORIZATION, "Basic abc", API);
        let mut trace = with(header::AUTHORIZATION, "Basic abc", API);
        *trace.method_mut() = http::Method::TRACE;
        for (request, expected) in [
            (get("https://evil.example/"), ErrorKind::Origin),
            (with(header::HOST, "evil.example", "/a"), ErrorKind::Origin),
            (with_method("TRACE", "https://evil.example/"), ErrorKind::Origin),
            (with_method("CONNECT", "evil.example:443"), ErrorKind::Origin),
            (present, ErrorKind::AuthorizationPresent),
            (trace, ErrorKind::AuthorizationPresent),
        ] {
            let error = send(&client, request).await.unwrap_err();
            assert_eq!(kind(&error), expected);
        }
        assert_eq!((api.count(), passed.lock().unwrap().len()), (0, 0));
    }

    /// RFC 9110 §9.3.8: "A client MUST NOT generate fields in a TRACE request containing sensitive
    /// data that might be disclosed by the response."
    #[tokio::test(start_paused = true)]
    async fn f81_trace_and_connect_carry_no_token_whatever_the_origins() {
        let (client, api, _) = reported(|tokens| {
            OAuthLayer::new(tokens, Origins::danger_any_origin())
                .existing_authorization(ExistingAuthorization::Replace)
        })
        .await;
        for (method, url) in
            [("TRACE", API), ("TRACE", "/a"), ("CONNECT", "api.example:443"), ("CONNECT", API)]
        {
            send(&client, with_method(method, url)).await.unwrap();
            assert_eq!(api.seen().last().unwrap().authorization(), None, "{method} {url}");
        }
        // Methods are case-sensitive (RFC 9110 §9.1), and this is another one.
        send(&client, with_method("trace", API)).await.unwrap();
        assert_eq!(api.seen().last().unwrap().authorization(), Some("Bearer token-1"));
    }

    #[cfg(feature = "tracing")]
    #[tokio::test(start_paused = true)]
    async fn f80_a_debug_line_says_why_without_path_query_and_user_information() {
        use std::io;

        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<Vec<u8>>>);

        impl io::Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let (client, ..) = reported(|tokens| OAuthLayer::new(tokens, API.parse().unwrap())).await;
        let lines = Lines::default();
        let made = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || made.clone())
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        send(&client, get("https://user:hunter2@evil.example:8443/secret?p=q")).await.unwrap();
        drop(guard);
        let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let [line] = lines.lines().collect::<Vec<_>>().try_into().unwrap();
        for part in ["DEBUG", "reason=foreign_origin", "origin=https://evil.example:8443"] {
            assert!(line.contains(part), "{line}");
        }
        for secret in ["user", "hunter2", "secret", "p=q"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}
