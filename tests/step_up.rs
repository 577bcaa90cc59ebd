//! What happens when an API says that a token lacks something.
#![cfg(test)]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]

use log_watch as _;

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::api::Api;
use http::{Request, Response};
use http_body_util::Full;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::{Service, ServiceExt};
use tower_layer::Layer;
use tower_oauth::{
    BoxError, ClientAuth, ClientCredentials, CloneRequest, ErrorKind, FixedToken, OAuthLayer,
    RefreshToken, Scopes, State, TokenHandle, TokenSet, TokenSource, Transport,
    middleware::Challenges,
    source::StepUp,
    testing::{AuthorizationServer, Recorded, Reply},
};

const API: &str = "https://api.example";
const LACKS_SCOPE: &str = r#"Bearer realm="r", error="insufficient_scope", scope="b c""#;
/// `{"access_token":{"nbf":{"essential":true}}}`
const LACKS_CLAIMS: &str = r#"Bearer error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZX19fQ==""#;

struct Setup {
    issuer: AuthorizationServer,
    tokens: TokenHandle,
    api: Api,
}

impl Setup {
    /// A token with the scope `a`.
    async fn new() -> Self {
        let issuer = AuthorizationServer::in_process();
        let source = ClientCredentials::builder(issuer.token_endpoint(), auth())
            .scope("a")
            .transport(transport(&issuer))
            .build()
            .unwrap();
        Self::with(issuer, source).await
    }

    async fn with(issuer: AuthorizationServer, source: impl TokenSource) -> Self {
        let tokens = TokenHandle::spawn(source);
        tokens.ready().await.unwrap();
        let api = Api::new();
        Self { issuer, tokens, api }
    }

    fn layer(&self) -> OAuthLayer {
        OAuthLayer::new(self.tokens.clone(), API.parse().unwrap())
    }

    /// Accepts only tokens after the first one.
    async fn only_newer(&self) {
        let first = self.tokens.token().await.unwrap().header_value();
        let first = first.to_str().unwrap().to_owned();
        self.api.accept(move |token| token != first);
    }

    fn scopes_asked_for(&self) -> Vec<String> {
        let requests = self.issuer.token_requests();
        requests.iter().filter_map(|request| request.param("scope")).collect()
    }
}

fn auth() -> ClientAuth {
    ClientAuth::basic("orders", "gX1fBat3bV")
}

fn transport(issuer: &AuthorizationServer) -> Transport {
    Transport::new::<_, Full<Bytes>, _>(issuer.service())
}

async fn send<S>(client: &S) -> Response<String>
where
    S: Service<Request<String>, Response = Response<String>, Error = BoxError> + Clone,
{
    client.clone().oneshot(Request::get(API).body(String::new()).unwrap()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn stp_01_a_login_that_is_wanted_is_told_to_the_caller_and_nothing_else_happens() {
    let s = Setup::new().await;
    s.api.accept(|_| false).refuse_with(
        401,
        &[(
            "www-authenticate",
            r#"Bearer error="insufficient_user_authentication", acr_values="myACR", max_age="5""#,
        )],
    );
    let client = s.layer().step_up().claims_challenges().replay(CloneRequest).layer(s.api.clone());
    let response = send(&client).await;
    assert_eq!(response.status(), 401);
    let challenges = response.extensions().get::<Challenges>().unwrap();
    let wanted = challenges.authentication_requirements().unwrap();
    assert_eq!(wanted.acr_values, ["myACR"]);
    assert_eq!(wanted.max_age, Some(Duration::from_secs(5)));
    assert_eq!((s.api.count(), s.issuer.token_request_count()), (1, 1));
    assert_eq!(s.tokens.current().unwrap().epoch(), 1);
}

#[tokio::test(start_paused = true)]
async fn stp_02_an_api_that_is_never_content_causes_one_token_request_with_all_scopes() {
    let s = Setup::new().await;
    s.api.accept(|_| false).refuse_with(403, &[("www-authenticate", LACKS_SCOPE)]);
    let client = s.layer().step_up().replay(CloneRequest).layer(s.api.clone());
    assert_eq!(send(&client).await.status(), 403);
    assert_eq!(s.api.count(), 2);
    assert_eq!(s.scopes_asked_for(), ["a", "a b c"]);
    // It has been had.
    tokio::time::advance(Duration::from_secs(100)).await;
    assert_eq!(send(&client).await.status(), 403);
    assert_eq!((s.api.count(), s.issuer.token_request_count()), (3, 2));
    // Later tokens have the scopes too.
    s.tokens.refresh().await.unwrap();
    assert_eq!(s.scopes_asked_for().last().unwrap(), "a b c");
}

#[tokio::test(start_paused = true)]
async fn stp_02_without_step_up_a_403_is_the_callers() {
    let s = Setup::new().await;
    s.api.accept(|_| false).refuse_with(403, &[("www-authenticate", LACKS_SCOPE)]);
    let client = s.layer().claims_challenges().replay(CloneRequest).layer(s.api.clone());
    assert_eq!(send(&client).await.status(), 403);
    assert_eq!((s.api.count(), s.issuer.token_request_count()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn stp_02_a_hundred_requests_share_one_step_up() {
    let s = Setup::new().await;
    s.only_newer().await;
    s.api.refuse_with(403, &[("www-authenticate", LACKS_SCOPE)]).delay(Duration::from_millis(5));
    let client = s.layer().step_up().replay(CloneRequest).layer(s.api.clone());
    let mut requests = JoinSet::new();
    for _ in 0..100 {
        let client = client.clone();
        requests.spawn(async move { send(&client).await.status() });
    }
    assert!(requests.join_all().await.iter().all(|status| *status == 200));
    assert_eq!((s.api.count(), s.issuer.token_request_count()), (200, 2));
}

#[tokio::test(start_paused = true)]
async fn stp_02_a_request_that_is_not_kept_leaves_the_new_token_to_the_next_one() {
    let s = Setup::new().await;
    s.only_newer().await;
    s.api.refuse_with(403, &[("www-authenticate", LACKS_SCOPE)]);
    let client = s.layer().step_up().layer(s.api.clone());
    assert_eq!(send(&client).await.status(), 403);
    let mut status = s.tokens.subscribe();
    status.wait_for(|status| status.epoch() == 2).await.unwrap();
    assert_eq!(send(&client).await.status(), 200);
    assert_eq!((s.api.count(), s.issuer.token_request_count()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn stp_02_a_step_up_that_is_refused_leaves_the_token_and_its_renewal_as_they_were() {
    let s = Setup::new().await;
    s.only_newer().await;
    s.api.refuse_with(403, &[("www-authenticate", LACKS_SCOPE)]);
    s.issuer.script(Reply::oauth_error(400, "invalid_scope"));
    let client = s.layer().step_up().replay(CloneRequest).layer(s.api.clone());
    let start = Instant::now();
    assert_eq!(send(&client).await.status(), 403);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let status = s.tokens.status();
    assert_eq!((status.state(), status.failures(), status.epoch()), (State::Fresh, 0, 1));
    // It is not asked for again for a minute, and does not hinder the renewal.
    assert_eq!(send(&client).await.status(), 403);
    assert_eq!((s.api.count(), s.issuer.token_request_count()), (2, 2));
    s.tokens.refresh().await.unwrap();
    assert_eq!(s.scopes_asked_for().last().unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn stp_02_claims_are_sent_once_and_a_second_challenge_is_the_callers() {
    let s = Setup::new().await;
    s.only_newer().await;
    s.api.refuse_with(401, &[("www-authenticate", LACKS_CLAIMS)]);
    let client = s.layer().claims_challenges().replay(CloneRequest).layer(s.api.clone());
    assert_eq!(send(&client).await.status(), 200);
    let claims = |request: &Recorded| request.param("claims");
    let sent: Vec<_> = s.issuer.token_requests().iter().map(claims).collect();
    assert_eq!(sent, [None, Some(r#"{"access_token":{"nbf":{"essential":true}}}"#.to_owned())]);

    s.api.accept(|_| false);
    tokio::time::advance(Duration::from_secs(100)).await;
    assert_eq!(send(&client).await.status(), 401);
    assert_eq!((s.api.count(), s.issuer.token_request_count()), (4, 3));
    // The next token is an ordinary one.
    s.tokens.refresh().await.unwrap();
    assert_eq!(claims(s.issuer.token_requests().last().unwrap()), None);

    let s = Setup::new().await;
    s.api.accept(|_| false).refuse_with(401, &[("www-authenticate", LACKS_CLAIMS)]);
    let client = s.layer().step_up().replay(CloneRequest).layer(s.api.clone());
    assert_eq!(send(&client).await.status(), 401);
    assert_eq!((s.api.count(), s.issuer.token_request_count()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn stp_02_rfr_01_scopes_beyond_a_grant_are_not_asked_for() {
    let issuer = AuthorizationServer::in_process();
    let initial = issuer.issue_refresh_token("orders");
    let source = RefreshToken::builder(issuer.token_endpoint(), auth(), initial)
        .granted_scopes(["a"])
        .transport(transport(&issuer))
        .build()
        .unwrap();
    let s = Setup::with(issuer, source).await;
    s.api.accept(|_| false).refuse_with(403, &[("www-authenticate", LACKS_SCOPE)]);
    let client = s.layer().step_up().replay(CloneRequest).layer(s.api.clone());
    assert_eq!(send(&client).await.status(), 403);
    assert_eq!((s.api.count(), s.issuer.token_request_count()), (1, 1));
    assert_eq!(s.tokens.status().state(), State::Fresh);
}

#[tokio::test(start_paused = true)]
async fn stp_02_while_renewals_fail_nothing_more_is_asked_for() {
    let s = Setup::new().await;
    let token = s.tokens.token().await.unwrap();
    s.issuer.script(Reply::status(503));
    s.tokens.refresh().await.unwrap_err();
    let mut scopes = Scopes::default();
    scopes.insert("b").unwrap();
    let error = s.tokens.step_up(token.epoch(), StepUp::scopes(scopes)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server, "it is why there is none");
    assert_eq!(s.scopes_asked_for(), ["a", "a"]);
}

#[tokio::test(start_paused = true)]
async fn a_handle_steps_up_for_what_is_not_behind_the_layer() {
    let s = Setup::new().await;
    let first = s.tokens.token().await.unwrap();
    let mut scopes = Scopes::default();
    scopes.insert("b").unwrap();
    let step_up = StepUp::scopes(scopes);
    let second = s.tokens.step_up(first.epoch(), step_up.clone()).await.unwrap();
    assert_eq!(second.epoch(), 2);
    // Whoever still has the first token gets the second one.
    let same = s.tokens.step_up(first.epoch(), step_up.clone()).await.unwrap();
    assert_eq!(same.epoch(), 2);
    let error = s.tokens.step_up(second.epoch(), step_up).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(s.scopes_asked_for(), ["a", "a b"]);
    s.tokens.shutdown().await;
    let error = s.tokens.step_up(2, StepUp::claims("{}")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn stp_02_a_server_that_gives_the_same_token_keeps_nobody_waiting() {
    let token = TokenSet::bearer("static").unwrap();
    let issuer = AuthorizationServer::in_process();
    let s = Setup::with(issuer, FixedToken::new(token)).await;
    s.api.accept(|_| false).refuse_with(403, &[("www-authenticate", LACKS_SCOPE)]);
    let client = s.layer().step_up().replay(CloneRequest).layer(s.api.clone());
    sleep(Duration::from_secs(60)).await;
    let started = Instant::now();
    assert_eq!(send(&client).await.status(), 403);
    assert_eq!((started.elapsed(), s.api.count()), (Duration::ZERO, 2));
}
