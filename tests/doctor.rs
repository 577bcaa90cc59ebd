//! The example `doctor`, as somebody runs it.
#![cfg(test)]
#![cfg(all(feature = "config", feature = "reqwest"))]

use log_watch as _;

use std::{path::PathBuf, process::Output};

use tokio::process::Command;
use tower_oauth::testing::{AuthorizationServer, ProtectedApi, Reply};

const SECRET: &str = "p4ss+w0rd/hunter2";

/// Runs it with a configuration and a URL.
async fn doctor(name: &str, config: &str, url: &str) -> Output {
    // Built along with the tests, beside their folder.
    let mut program = std::env::current_exe().unwrap();
    program.pop();
    program.pop();
    program.push("examples/doctor");
    assert!(program.exists(), "{} is built by a run of all tests", program.display());
    let file = format!("tower-oauth-doctor-{name}-{}.toml", std::process::id());
    let file: PathBuf = std::env::temp_dir().join(file);
    std::fs::write(&file, config).unwrap();
    let run = Command::new(program).arg(&file).arg(url).env("NO_PROXY", "127.0.0.1").output();
    let output = run.await.unwrap();
    std::fs::remove_file(&file).unwrap();
    output
}

fn config(server: &AuthorizationServer, api: &ProtectedApi) -> String {
    format!(
        "token_endpoint = {:?}
         origins = {:?}
         client = {{ id = \"orders\", secret = {{ danger_literal = \"{SECRET}\" }} }}",
        server.token_endpoint(),
        api.url(),
    )
}

fn shown(output: &Output) -> String {
    let text = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn both_exchanges_are_shown_without_the_secret_and_the_token() {
    let server = AuthorizationServer::start().await.unwrap();
    server.client("orders", SECRET);
    let api = ProtectedApi::start(&server).await.unwrap();
    let output =
        doctor("good", &config(&server, &api), &format!("{}/orders?key=k3y", api.url())).await;
    let shown = shown(&output);
    assert!(output.status.success(), "{shown}");
    for expected in ["To the authorization server:", "To the API:", "All is well."] {
        assert!(shown.contains(expected), "{shown}");
    }
    let token = api.requests()[0].bearer().unwrap().to_owned();
    for secret in [SECRET, "hunter2", &*token, "k3y"] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
}

#[tokio::test]
async fn a_failure_is_explained_and_a_server_that_repeats_the_secret_does_not_give_it_away() {
    let server = AuthorizationServer::start().await.unwrap();
    let repeated = format!("no client orders with {SECRET}");
    server.always(
        Reply::json(
            401,
            serde_json::json!({ "error": "invalid_client", "error_description": repeated }),
        )
        .header("x-debug", SECRET),
    );
    let api = ProtectedApi::start(&server).await.unwrap();
    let output = doctor("bad", &config(&server, &api), api.url()).await;
    let shown = shown(&output);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains("What to do: check the client's id and secret"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(api.request_count(), 0);
}

#[tokio::test]
async fn an_api_that_refuses_is_told_from_a_server_that_does() {
    let server = AuthorizationServer::start().await.unwrap();
    server.client("orders", SECRET);
    let api = ProtectedApi::start(&server).await.unwrap();
    for (reply, expected) in [
        (
            Reply::status(401).header("www-authenticate", "Bearer error=\"invalid_token\""),
            "does not accept the token",
        ),
        (
            Reply::status(403).header(
                "www-authenticate",
                "Bearer error=\"insufficient_scope\", scope=\"orders.write\"",
            ),
            "the token lacks a scope",
        ),
        (Reply::status(404), "check the path"),
        (Reply::status(500), "the API has a problem of its own"),
    ] {
        api.always(reply);
        let output = doctor("api", &config(&server, &api), api.url()).await;
        let shown = shown(&output);
        assert!(!output.status.success() && shown.contains(expected), "{shown}");
    }
}

#[tokio::test]
async fn a_wrong_configuration_is_told_without_its_secret() {
    let server = AuthorizationServer::start().await.unwrap();
    let api = ProtectedApi::start(&server).await.unwrap();
    let good = config(&server, &api);
    for (wrong, expected) in [
        (good.replace("origins", "orgins"), "orgins: there is no such key"),
        (
            good.replace("{ danger_literal = ", "").replace(" } }", " }"),
            "client.secret: a secret is not written here",
        ),
        (good.replace('}', ""), "TOML parse error at line"),
        (good.replace(SECRET, ""), "is empty"),
    ] {
        let output = doctor("wrong", &wrong, api.url()).await;
        let shown = shown(&output);
        assert!(!output.status.success() && shown.contains(expected), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
