//! A configuration that is replaced while requests are under way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_oauth::{
    ErrorKind, Transport,
    config::{OAuthClient, OAuthConfig, ReloadError},
    testing::{AuthorizationServer, ProtectedApi, Reply, Rotation},
};

fn credentials(server: &AuthorizationServer, id: &str, secret: &str) -> OAuthConfig {
    credentials_at(&server.token_endpoint(), id, secret)
}

fn credentials_at(endpoint: &str, id: &str, secret: &str) -> OAuthConfig {
    super::toml(&format!(
        "token_endpoint = {endpoint:?}
         origins = \"http://127.0.0.1:1\"
         client = {{ id = \"{id}\", secret = {{ danger_literal = \"{secret}\" }} }}",
    ))
    .unwrap()
}

/// A server that is found at [`SECOND`]; the other one is where it says.
fn both(one: &AuthorizationServer, two: &AuthorizationServer) -> Transport {
    let (first, second) = (one.service(), two.service());
    Transport::new(tower::service_fn(move |request: http::Request<Full<Bytes>>| {
        let is_second = *request.uri() == SECOND;
        let service = if is_second { second.clone() } else { first.clone() };
        service.oneshot(request)
    }))
}

const SECOND: &str = "https://second.test/token";

async fn token(client: &OAuthClient) -> String {
    client.tokens().token().await.unwrap().access_token().expose().to_owned()
}

fn start(config: &OAuthConfig, transport: Transport) -> OAuthClient {
    config.builder().transport(transport).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn new_credentials_take_over_once_they_have_worked() {
    let server = AuthorizationServer::in_process();
    server.client("old", "s1").client("new", "s2");
    let client = start(&credentials(&server, "old", "s1"), crate::transport(&server));
    let before = token(&client).await;

    let new = credentials(&server, "new", "s2");
    client.reload(&new).await.unwrap();
    assert_eq!(client.config(), new);
    let after = token(&client).await;
    assert_ne!(before, after);
    let ids: Vec<_> = server.token_requests().iter().map(|r| r.basic().unwrap().0).collect();
    assert_eq!(ids, ["old", "new"]);

    // And so does every renewal.
    client.tokens().refresh().await.unwrap();
    assert_eq!(server.token_requests()[2].basic().unwrap().0, "new");
}

#[tokio::test(start_paused = true)]
async fn credentials_that_do_not_work_change_nothing() {
    let server = AuthorizationServer::in_process();
    server.client("old", "s1");
    let old = credentials(&server, "old", "s1");
    let client = start(&old, crate::transport(&server));
    token(&client).await;

    let error = client.reload(&credentials(&server, "old", "wrong")).await.unwrap_err();
    let ReloadError::Refused(refused) = &error else { panic!("{error:?}") };
    assert_eq!(refused.kind(), ErrorKind::InvalidClient);
    assert!(!format!("{error} {error:?}").contains("wrong"));
    assert_eq!(client.config(), old);
    let status = client.tokens().status();
    assert_eq!((status.failures(), status.error().is_none()), (0, true));
    // The handle goes on as if nothing had happened: no pause, and the old credentials.
    client.tokens().refresh().await.unwrap();
    assert_eq!(server.token_requests().last().unwrap().basic().unwrap().1, "s1");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_does_not_end_the_old_credentials() {
    let one = AuthorizationServer::in_process();
    let two = AuthorizationServer::in_process();
    one.client("old", "s1");
    two.always(Reply::hang());
    let old = credentials(&one, "old", "s1");
    let client = start(&old, both(&one, &two));
    token(&client).await;
    let error = client.reload(&credentials_at(SECOND, "new", "s2")).await.unwrap_err();
    assert!(
        matches!(&error, ReloadError::Refused(e) if e.kind() == ErrorKind::Timeout),
        "{error:?}"
    );
    assert_eq!(client.config(), old);
    assert!(one.is_active(&token(&client).await));
}

#[tokio::test(start_paused = true)]
async fn credentials_that_never_worked_can_be_replaced_by_ones_that_do() {
    let server = AuthorizationServer::in_process();
    server.client("orders", "right");
    let wrong = credentials(&server, "orders", "wrong");
    let client = start(&wrong, crate::transport(&server));
    assert_eq!(client.tokens().ready().await.unwrap_err().kind(), ErrorKind::InvalidClient);
    client.reload(&credentials(&server, "orders", "right")).await.unwrap();
    client.tokens().ready().await.unwrap();
}

/// A refresh token goes to nobody but the server that issued it.
#[tokio::test(start_paused = true)]
async fn the_refresh_token_of_one_session_is_not_shown_to_another_server() {
    let one = AuthorizationServer::in_process();
    let two = AuthorizationServer::in_process();
    let session = |server: &AuthorizationServer, endpoint: &str| {
        server
            .client("cli", "s1")
            .refresh_tokens(true)
            .rotation(Rotation::Always { grace: Duration::ZERO });
        let mut config = credentials_at(endpoint, "cli", "s1");
        let token = server.issue_refresh_token("cli");
        let grant =
            format!("{{ refresh_token = {{ token = {{ danger_literal = \"{token}\" }} }} }}");
        config.grant = super::toml(&format!("grant = {grant}")).unwrap().grant;
        config
    };
    let first = session(&one, &one.token_endpoint());
    let second = session(&two, SECOND);
    let client = start(&first, both(&one, &two));
    token(&client).await;
    client.reload(&second).await.unwrap();
    client.tokens().refresh().await.unwrap();

    let shown = |server: &AuthorizationServer| -> Vec<_> {
        server.token_requests().iter().map(|r| r.param("refresh_token").unwrap()).collect()
    };
    let (at_one, at_two) = (shown(&one), shown(&two));
    assert_eq!((at_one.len(), at_two.len()), (1, 2));
    assert!(at_two.iter().all(|token| !at_one.contains(token)));
    assert!(!one.reuse_detected() && !two.reuse_detected());
}

/// Otherwise the spent token of the configuration would be sent, and end the session.
#[tokio::test(start_paused = true)]
async fn a_session_that_stays_the_same_goes_on_with_its_newest_refresh_token() {
    let server = AuthorizationServer::in_process();
    server
        .client("cli", "s1")
        .refresh_tokens(true)
        .rotation(Rotation::Always { grace: Duration::ZERO });
    let file = super::SecretFile::new("session", &server.issue_refresh_token("cli"));
    let config = |scope: &str| {
        let mut config = credentials(&server, "cli", "s1");
        let text = format!("scope = \"{scope}\"\n[grant.refresh_token]\ntoken = {}", file.toml());
        let other = super::toml(&text).unwrap();
        (config.grant, config.timeout) = (other.grant, Some(Duration::from_secs(7)));
        config
    };
    let client = start(&config(""), crate::transport(&server));
    token(&client).await;
    client.tokens().refresh().await.unwrap();
    for _ in 0..3 {
        client.reload(&config("")).await.unwrap();
    }
    assert!(!server.reuse_detected());
    let shown: Vec<_> =
        server.token_requests().iter().map(|r| r.param("refresh_token").unwrap()).collect();
    assert_eq!(shown.len(), 5);
    assert!((1..5).all(|at| !shown[..at].contains(&shown[at])), "{shown:?}");

    // Somebody gave access again: what is in the file now is what counts.
    let again = server.issue_refresh_token("cli");
    file.write(&again);
    client.reload(&config("")).await.unwrap();
    assert_eq!(server.token_requests()[5].param("refresh_token").unwrap(), again);
    assert!(!server.reuse_detected());
}

#[tokio::test(start_paused = true)]
async fn what_layers_and_handles_were_made_with_cannot_change() {
    let server = AuthorizationServer::in_process();
    server.client("orders", "s1");
    let config = credentials(&server, "orders", "s1");
    let client =
        config.builder().name("orders").transport(crate::transport(&server)).build().unwrap();
    token(&client).await;
    for (change, expected) in [
        ("origins = \"https://evil.example\"", "client \"orders\": origins: it cannot change"),
        ("[handle]\nwait = \"1s\"", "client \"orders\": handle: it cannot change"),
        ("[layer]\nstep_up = true", "client \"orders\": layer: it cannot change"),
    ] {
        let mut new = config.clone();
        let change = super::toml(change).unwrap();
        if !change.origins.is_empty() {
            new.origins = change.origins;
        }
        (new.handle, new.layer) = (change.handle, change.layer);
        let error = client.reload(&new).await.unwrap_err();
        assert!(matches!(error, ReloadError::Config(_)));
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    assert_eq!(server.token_request_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_is_given_up_leaves_one_configuration_in_use_as_a_whole() {
    let server = AuthorizationServer::in_process();
    server.client("old", "s1").client("new", "s2");
    let client = start(&credentials(&server, "old", "s1"), crate::transport(&server));
    token(&client).await;
    server.script(Reply::honest().delay(Duration::from_secs(2)));
    let new = credentials(&server, "new", "s2");
    let reload = client.reload(&new);
    assert!(tokio::time::timeout(Duration::from_secs(1), reload).await.is_err());
    tokio::time::sleep(Duration::from_secs(5)).await;
    // Its server was asked already.
    assert_eq!(client.config(), new);
    client.tokens().refresh().await.unwrap();
    assert_eq!(server.token_requests().last().unwrap().basic().unwrap().0, "new");
}

/// Requests all the while, through good reloads and bad ones.
#[cfg(feature = "reqwest")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_while_credentials_are_replaced() {
    let server = AuthorizationServer::start().await.unwrap();
    server.client("a", "s1").client("b", "s2");
    let api = ProtectedApi::start(&server).await.unwrap();
    let config = |id: &str, secret: &str| {
        let mut config = credentials(&server, id, secret);
        config.origins = vec![api.url().to_owned()];
        config
    };
    let client = config("a", "s1").builder().build().unwrap();
    client.tokens().ready().await.unwrap();
    let policy = client.origins().redirect_policy();
    let http = reqwest::Client::builder().redirect(policy).build().unwrap();
    let service = ServiceBuilder::new().layer(client.layer()).service(http);
    let done = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (mut service, done, url) = (service.clone(), done.clone(), api.url().to_owned());
            #[expect(clippy::disallowed_methods, reason = "callers are at work meanwhile")]
            tokio::spawn(async move {
                let mut answered = 0_u32;
                while !done.load(Ordering::Relaxed) {
                    let request = reqwest::Client::new().get(&url).build().unwrap();
                    let response = service.ready().await.unwrap().call(request).await.unwrap();
                    assert_eq!(response.status(), 200);
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for (id, secret, works) in
        [("b", "s2", true), ("a", "wrong", false), ("a", "s1", true), ("b", "s2", true)]
    {
        assert_eq!(client.reload(&config(id, secret)).await.is_ok(), works, "{id} {secret}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    done.store(true, Ordering::Relaxed);
    for caller in callers {
        assert!(caller.await.unwrap() > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn f78_a_file_can_say_which_statuses_refuse_a_token() {
    for statuses in ["[403, 419]", "419", "\"403 419\""] {
        let server = AuthorizationServer::in_process();
        server.client("orders", "s1");
        let mut config = credentials(&server, "orders", "s1");
        let layer = format!("[layer]\nrefused_statuses = {statuses}");
        config.layer = super::toml(&layer).unwrap().layer;
        config.origins = vec!["https://api.example".to_owned()];
        let client = start(&config, crate::transport(&server));
        let calls = Arc::new(AtomicUsize::new(0));
        let below = tower::service_fn({
            let calls = calls.clone();
            move |_: http::Request<String>| {
                let first = calls.fetch_add(1, Ordering::Relaxed) == 0;
                let status = if first { 419 } else { 200 };
                let response = http::Response::builder().status(status).body(String::new());
                std::future::ready(Ok::<_, std::io::Error>(response.unwrap()))
            }
        });
        let api = client.layer().replay(tower_oauth::CloneRequest);
        let api = tower::Layer::layer(&api, below);
        let request = http::Request::get("https://api.example/a").body(String::new()).unwrap();
        assert_eq!(ServiceExt::oneshot(api, request).await.unwrap().status(), 200);
        assert_eq!(server.token_request_count(), 2, "{statuses}");
    }
}
