//! The watch over what tests log: that it sees, and that no test is without it.
#![cfg(test)]

use std::{fs, path::Path};

use log_watch::holds_secret;

/// Those without it, and why.
const UNWATCHED: [(&str, &str); 9] = [
    ("architecture", "reads files"),
    ("canary", "records all that is logged itself"),
    ("dependencies", "reads files"),
    ("hot_path", "counts allocations, of which each line of a log makes some"),
    ("machine", "has a log of its own, which cannot be written"),
    ("memory", "searches the process for copies of secrets"),
    ("pool", "counts allocations, of which each line of a log makes some"),
    ("reliability", "reads files"),
    ("soak", "sends a million requests"),
];

#[test]
fn log_01_f56_every_test_is_watched_for_secrets_in_what_is_logged() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut watched = 0;
    for entry in fs::read_dir(tests).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let main = if path.is_dir() { path.join("main.rs") } else { path };
        if main.extension().is_none_or(|extension| extension != "rs") || !main.exists() {
            continue;
        }
        let is_watched = fs::read_to_string(&main).unwrap().contains("use log_watch");
        let is_listed = UNWATCHED.iter().any(|(unwatched, _)| *unwatched == name);
        assert!(is_watched != is_listed, "{name} is to say `use log_watch as _;`, or to be listed");
        watched += usize::from(is_watched);
    }
    assert!(watched > 20, "{watched}");
}

#[test]
fn log_01_secrets_are_found_and_the_names_of_things_are_not() {
    for secret in [
        "token = at-1-a1B2c3D4e5F6g7H8i9J0k1L2",
        "authorization: Basic b3JkZXJzOmdYMWZCYXQzYlY=",
        r#""authorization": "bearer 2YotnFZFEjr1zCsicMWp""#,
        "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJvcmRlcnMifQ.c2lnbmF0dXJl",
        "grant_type=refresh_token&refresh_token=tGzv3JOkF0XG5Qx2TlKWIA",
        r#"{"access_token":"2YotnFZFEjr1zCsicMWpAA"}"#,
        r#""{\"access_token\": \"2YotnFZFEjr1zCsicMWpAA\"}""#,
    ] {
        assert!(holds_secret(secret.as_bytes()), "{secret}");
    }
    for other in [
        "the bearer token expires in 3600 s",
        "client_secret_basic was used",
        "Basic authentication",
        "grant_type=client_credentials",
        "authorization: Sensitive",
        "the answer has no \"access_token\"",
    ] {
        assert!(!holds_secret(other.as_bytes()), "{other}");
    }
}

/// The process that logs one is ended.
#[test]
fn log_01_a_test_that_logs_a_secret_ends_at_once() {
    const LOGS: &str = "LOG_A_SECRET";
    match std::env::var(LOGS).as_deref() {
        Ok("tracing") => tracing::trace!(header = "Bearer 2YotnFZFEjr1zCsicMWp"),
        Ok("log") => log::trace!("Bearer 2YotnFZFEjr1zCsicMWp"),
        _ => {
            for logger in ["tracing", "log"] {
                let output = std::process::Command::new(std::env::current_exe().unwrap())
                    .args([
                        "--nocapture",
                        "--exact",
                        "log_01_a_test_that_logs_a_secret_ends_at_once",
                    ])
                    .env(LOGS, logger)
                    .output()
                    .unwrap();
                assert!(!output.status.success(), "{logger}: {output:?}");
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(text.contains("a secret was logged"), "{logger}: {text}");
            }
        }
    }
}
