//! What a newcomer copies from the README gets an answer from an API, with a token of a server that
//! is not ours.

mod quick_start;

use std::sync::{Mutex, OnceLock};

use reqwest::StatusCode;
use tower_oauth::BoxError;

use crate::{common::node::OidcServer, harness::HOUR};

#[tokio::test]
async fn the_quick_start_of_the_readme_calls_the_api() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    PLACES.set((server.token_endpoint(), format!("{}/orders", server.api()))).unwrap();
    quick_start::main().await?;
    assert_eq!(*ANSWER.lock().unwrap(), Some(StatusCode::OK));
    assert_eq!(server.token_requests().await.len(), 1);
    Ok(())
}

/// `quick_start.rs` is the README's first block of code, but for the names of this place.
#[test]
fn the_quick_start_that_is_run_is_the_one_in_the_readme() {
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme.split_once("```rust,no_run\n").expect("the README has code");
    let (code, _) = rest.split_once("```").expect("the code has an end");
    let mut code = code.to_owned();
    for (theirs, ours) in PLACEHOLDERS {
        assert!(code.contains(theirs), "{theirs} is no longer in the README");
        code = code.replace(theirs, ours);
    }
    let run = include_str!("quick_start.rs");
    assert_eq!(bare(run), bare(&code), "quick_start.rs should be:\n{code}");
}

const PLACEHOLDERS: [(&str, &str); 8] = [
    ("#[tokio::main]\nasync fn main()", "pub(super) async fn main()"),
    ("\"https://idp.example/oauth2/token\"", "super::token_endpoint()"),
    ("\"orders\"", "\"basic\""),
    ("\"orders.read\"", "\"read\""),
    ("SecretSource::env(\"ORDERS_CLIENT_SECRET\")", "SecretSource::from(super::SECRET)"),
    ("\"https://api.example\".parse()", "super::origin().parse()"),
    ("\"https://api.example/orders\"", "super::orders()"),
    ("println!(\"{}\", response.status())", "super::answered(response.status())"),
];

/// Code as it is whatever the formatter makes of it.
fn bare(code: &str) -> String {
    let code: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    code.replace(",)", ")")
}

static PLACES: OnceLock<(String, String)> = OnceLock::new();
static ANSWER: Mutex<Option<StatusCode>> = Mutex::new(None);
const SECRET: &str = "secret of basic";

fn token_endpoint() -> &'static str {
    &PLACES.get().unwrap().0
}

fn orders() -> &'static str {
    &PLACES.get().unwrap().1
}

fn origin() -> &'static str {
    orders().strip_suffix("/orders").unwrap()
}

fn answered(status: StatusCode) {
    *ANSWER.lock().unwrap() = Some(status);
}
