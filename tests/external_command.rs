//! Tokens that a program writes, with real programs.
#![cfg(test)]
#![cfg(all(unix, feature = "external-command"))]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]

use log_watch as _;

use std::{
    error::Error as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::json;
use tower_oauth::{
    Error, ErrorKind, ExternalCommand, FetchContext, SecretSource, TokenHandle, TokenSet,
    TokenSource,
    grant::{CommandFailure, ExternalCommandBuilder},
};

/// A program that runs this script.
fn sh(script: &str) -> ExternalCommandBuilder {
    ExternalCommand::danger_builder("/bin/sh").args(["-c", script])
}

async fn fetch(builder: ExternalCommandBuilder) -> Result<TokenSet, Error> {
    builder.build().unwrap().fetch(FetchContext::first()).await
}

async fn token(builder: ExternalCommandBuilder) -> String {
    fetch(builder).await.unwrap().access_token().expose().to_owned()
}

/// Everything that an error shows.
fn everything(error: &Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text} {cause} {cause:?}");
        next = cause.source();
    }
    text
}

fn seconds(token: &TokenSet) -> Option<u64> {
    token.lifetime().map(|lifetime| lifetime.as_secs())
}

#[tokio::test]
async fn a_token_response_and_a_token_alone_are_taken() {
    let response = json!({
        "access_token": "t", "token_type": "bearer", "expires_in": "120",
        "refresh_token": "r", "scope": "a b", "project": "p",
    });
    let got = fetch(sh("printf %s \"$OUT\"").env("OUT", response.to_string())).await.unwrap();
    assert_eq!((got.access_token().expose(), seconds(&got)), ("t", Some(120)));
    assert_eq!(got.scopes().unwrap().to_string(), "a b");
    assert!(got.refresh_token().is_some() && got.member("project").is_some());

    let got = fetch(sh("echo; echo ' {\"access_token\": \"t\"}'")).await.unwrap();
    assert_eq!((got.access_token().expose(), seconds(&got)), ("t", Some(300)));

    let got = fetch(sh("echo ya29.alone").lifetime(Duration::from_secs(7))).await.unwrap();
    assert_eq!((got.access_token().expose(), seconds(&got)), ("ya29.alone", Some(7)));
    assert!(got.sent_at().is_some());
}

/// Its claims are `{"exp":4102444800}`: the first of January 2100.
#[tokio::test]
async fn a_jwt_alone_lives_until_it_says() {
    let got = fetch(sh("echo e30.eyJleHAiOjQxMDI0NDQ4MDB9.c2ln")).await.unwrap();
    assert!(got.lifetime().unwrap() > Duration::from_secs(365 * 86400));
    let got = fetch(sh("echo e30.eyJleHAiOjEwMDB9.c2ln")).await.unwrap();
    assert_eq!(got.lifetime(), Some(Duration::ZERO));
}

#[tokio::test]
async fn arguments_are_passed_as_they_are() {
    let odd = "$HOME;`id`&&*";
    let builder = ExternalCommand::danger_builder("/bin/echo").args(["-n", odd]);
    assert_eq!(token(builder).await, odd);
    let builder = sh("echo \"$0-$#-$1\"").arg("zero").args(["a", ""]);
    assert_eq!(token(builder).await, "zero-2-a");
}

#[tokio::test]
async fn the_environment_is_empty_unless_it_is_given() {
    // Cargo sets it for every test.
    let script = "echo \"${CARGO_PKG_NAME-unset}:${MINE-unset}\"";
    assert!(std::env::var("CARGO_PKG_NAME").is_ok());
    assert_eq!(token(sh(script)).await, "unset:unset");
    assert_eq!(token(sh(script).env("MINE", "given")).await, "unset:given");
    assert_eq!(token(sh(script).inherit_env("CARGO_PKG_NAME")).await, "tower-oauth:unset");
    assert_eq!(token(sh(script).inherit_env("NOT_SET_AT_ALL")).await, "unset:unset");
    let all = sh(script).inherit_all_env().env("MINE", "given");
    assert_eq!(token(all).await, "tower-oauth:given");
    assert_eq!(token(sh("pwd").current_dir("/")).await, "/");
}

#[tokio::test]
async fn log_01_a_failure_tells_the_exit_status_and_nothing_that_was_written() {
    let script = "echo canary-out; echo canary-err >&2; exit 3";
    let error = fetch(sh(script).env("X", "canary-env").arg("canary-arg")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    assert!(error.is_retryable());
    let failure = error.source().unwrap().downcast_ref::<CommandFailure>().unwrap();
    assert_eq!(failure.status().code(), Some(3));
    let shown = everything(&error);
    assert!(shown.contains("/bin/sh") && shown.contains("exit status: 3"), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");

    let shown = everything(&fetch(sh("kill -9 $$")).await.unwrap_err());
    assert!(shown.contains("signal: 9"), "{shown}");

    let builder = sh("canary-arg").env("X", "canary-env");
    let shown =
        format!("{builder:?} {:?}", sh("canary-arg").env("X", "canary-env").build().unwrap());
    assert!(shown.contains("/bin/sh") && !shown.contains("canary"), "{shown}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn log_01_neither_input_nor_error_output_are_this_process_own() {
    let builder = sh("echo \"$(readlink /proc/self/fd/0):$(readlink /proc/self/fd/2)\"");
    assert_eq!(token(builder.env("PATH", "/usr/bin:/bin")).await, "/dev/null:/dev/null");
}

#[tokio::test]
async fn output_that_is_no_token_is_refused_unseen() {
    for (script, kind) in [
        ("true", ErrorKind::UnusableToken),
        // Its standard input is empty.
        ("cat", ErrorKind::UnusableToken),
        ("echo canary one two", ErrorKind::UnusableToken),
        ("printf 'canary\\n\\ncanary'", ErrorKind::UnusableToken),
        ("printf 'canary\\377'", ErrorKind::MalformedResponse),
        ("echo '{\"access_token\":\"canary'", ErrorKind::MalformedResponse),
        ("echo '{\"token\":\"canary\"}'", ErrorKind::MalformedResponse),
        (
            "echo '{\"access_token\":\"canary\",\"token_type\":\"canary\"}'",
            ErrorKind::UnusableToken,
        ),
        ("echo '{\"access_token\":\"canary\",\"error\":\"x\"}'", ErrorKind::Denied),
    ] {
        let error = fetch(sh(script).env("PATH", "/usr/bin:/bin")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{script}");
        assert!(!everything(&error).contains("canary"), "{script}: {error:?}");
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_failure_with_its_cause() {
    let error = fetch(ExternalCommand::danger_builder("/nonexistent/program")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    let cause = error.source().unwrap().downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(cause.kind(), std::io::ErrorKind::NotFound);
}

#[tokio::test]
async fn a_variable_that_cannot_be_read_keeps_the_program_from_running() {
    let mark = Mark::new("unread");
    let script = format!("echo $$ > {}", mark.0.display());
    let builder = sh(&script).env("X", SecretSource::file("/nonexistent/secret"));
    assert_eq!(fetch(builder).await.unwrap_err().kind(), ErrorKind::Credential);
    assert!(!mark.0.exists());
}

#[test]
fn what_cannot_be_run_is_refused_when_it_is_built() {
    for (builder, part) in [
        (ExternalCommand::danger_builder("sh"), "absolute"),
        (ExternalCommand::danger_builder("./sh"), "absolute"),
        (ExternalCommand::danger_builder(""), "absolute"),
        (sh("").env("", "x"), "variable"),
        (sh("").env("A=B", "x"), "variable"),
        (sh("").inherit_env("A\0"), "variable"),
        (sh("").timeout(Duration::ZERO), "timeout"),
    ] {
        let error = builder.build().unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// A file that a script leaves its process id in.
struct Mark(PathBuf);

impl Mark {
    fn new(name: &str) -> Self {
        let mark = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("command-{name}")));
        let _ = std::fs::remove_file(&mark.0);
        mark
    }

    fn builder(&self, rest: &str) -> ExternalCommandBuilder {
        let mark = self.0.display();
        sh(&format!("echo $$ > {mark}.new && mv {mark}.new {mark}; {rest}"))
            .env("PATH", "/usr/bin:/bin")
    }

    async fn pid(&self) -> String {
        for _ in 0..500 {
            if let Ok(pid) = std::fs::read_to_string(&self.0) {
                return pid.trim().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the program did not start");
    }

    /// Waits until the program is gone.
    async fn is_killed(&self) -> bool {
        let pid = self.pid().await;
        for _ in 0..500 {
            let alive = std::process::Command::new("/bin/kill").args(["-0", &pid]).output();
            if !alive.unwrap().status.success() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }
}

#[tokio::test]
async fn a_program_that_does_not_end_is_killed_at_the_deadline() {
    let mark = Mark::new("deadline");
    let start = Instant::now();
    let builder = mark.builder("exec sleep 600").timeout(Duration::from_millis(500));
    let error = fetch(builder).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(mark.is_killed().await);

    // The fetch's own deadline counts too.
    let mark = Mark::new("fetch-deadline");
    let source = mark.builder("exec sleep 600").build().unwrap();
    let mut cx = FetchContext::first();
    cx.deadline = tokio::time::Instant::now() + Duration::from_millis(500);
    assert_eq!(source.fetch(cx).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(mark.is_killed().await);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_program_that_never_stops_writing_is_killed_at_64_kib() {
    let mark = Mark::new("endless");
    let start = Instant::now();
    let error = fetch(mark.builder("while :; do echo xxxxxxxxxxxxxxxx; done")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MalformedResponse);
    assert!(error.to_string().contains("64 KiB"), "{error}");
    assert!(mark.is_killed().await && start.elapsed() < Duration::from_secs(10));
    // Exactly so much is taken.
    let script = "i=0; while [ $i -lt 1024 ]; do printf %s \"$L\"; i=$((i+1)); done";
    let got = fetch(sh(script).env("L", "x".repeat(64))).await.unwrap();
    assert_eq!(got.access_token().expose().len(), 65536);
}

#[tokio::test]
async fn a_fetch_that_is_dropped_kills_the_program() {
    let mark = Mark::new("dropped");
    let source = mark.builder("exec sleep 600").build().unwrap();
    let fetch = tokio::spawn(async move { source.fetch(FetchContext::first()).await });
    mark.pid().await;
    fetch.abort();
    assert!(mark.is_killed().await);
}

#[tokio::test]
async fn a_handle_runs_the_program_again_when_the_token_is_due() {
    let count = Mark::new("count");
    std::fs::write(&count.0, "").unwrap();
    let script = format!("printf x >> {0}; echo token-$(wc -c < {0})", count.0.display());
    let source = sh(&script).env("PATH", "/usr/bin:/bin").build().unwrap();
    let tokens = TokenHandle::spawn(source);
    assert_eq!(tokens.token().await.unwrap().header_value(), "Bearer token-1");
    assert_eq!(tokens.refresh().await.unwrap().header_value(), "Bearer token-2");
}

/// A credential helper that starts an agent, which keeps the output open: the token used to come after
/// the timeout, as an error.
#[tokio::test]
async fn a_grandchild_that_holds_the_output_is_not_waited_for() {
    let started = Instant::now();
    assert_eq!(token(sh("echo t; sleep 20 & exit 0")).await, "t");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    // All that the program itself has written is read.
    let long = "head -c 60000 /dev/zero | tr '\\0' a; sleep 20 & exit 0";
    assert_eq!(token(sh(long)).await.len(), 60_000);
    let error = fetch(sh("echo t; sleep 20 & exit 3")).await.unwrap_err();
    assert!(error.source().unwrap().is::<CommandFailure>(), "{error}");
}
