use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, DATE, RETRY_AFTER},
};
use proptest::prelude::*;
use tokio::time::Instant;

use super::{
    answer::{Reading, UnusableAnswer, read},
    codes::ErrorCodes,
    pointer::Pointer,
    redactor::Redactor,
    response::{Accepted, Rules},
};
use crate::{
    error::{Error, ErrorKind},
    http::Answer,
    secret::Secret,
    token::{Scopes, TokenSet, TokenType},
};

const LENIENT: Rules = rules(false);
const STRICT: Rules = rules(true);

const fn rules(strict: bool) -> Rules {
    let max_lifetime = Duration::from_secs(86400);
    Rules {
        strict,
        assume_bearer: false,
        max_lifetime,
        token_at: None,
        bearer_types: Vec::new(),
        accepted: Accepted::Bearer,
    }
}
const JSON: &str = "application/json";

/// When the answers below were asked for, in seconds since 1970.
const NOW: u64 = 1_566_161_738;

static SENT: LazyLock<Instant> = LazyLock::new(Instant::now);
static CODES: LazyLock<ErrorCodes> = LazyLock::new(ErrorCodes::default);

fn answer(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    let mut answer = http::Response::new(body.into().into());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    if !content_type.is_empty() {
        let value = HeaderValue::from_str(content_type).unwrap();
        answer.headers_mut().insert(CONTENT_TYPE, value);
    }
    answer
}

fn scopes(tokens: &[&str]) -> Scopes {
    let mut scopes = Scopes::default();
    tokens.iter().try_for_each(|token| scopes.insert(token)).unwrap();
    scopes
}

fn reading<'a>(rules: &'a Rules, requested: &'a Scopes) -> Reading<'a> {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    let late = (*SENT + Duration::from_secs(2), wall + Duration::from_secs(2));
    let (method, codes, sent) = ("client_secret_basic", &*CODES, (*SENT, wall));
    Reading { rules, requested, method, codes, sent, received: late }
}

fn read_with(rules: &Rules, answer: &Answer) -> Result<TokenSet, Error> {
    let secret = Secret::from("hunter2+");
    let requested = scopes(&["a", "b"]);
    let reading = reading(rules, &requested);
    read(answer, &reading, || Redactor::new([&secret])).map_err(Error::from)
}

fn json(body: &str) -> Result<TokenSet, Error> {
    read_with(&LENIENT, &answer(200, JSON, body))
}

fn strict(body: &str) -> Result<TokenSet, Error> {
    read_with(&STRICT, &answer(200, JSON, body))
}

fn error(status: u16, content_type: &str, body: &str) -> Error {
    read_with(&LENIENT, &answer(status, content_type, body)).unwrap_err()
}

/// A bearer token with these members as well.
fn bearer(members: &str) -> String {
    format!(r#"{{"access_token":"t","token_type":"Bearer"{members}}}"#)
}

#[expect(clippy::unnecessary_wraps, reason = "the getters return options")]
fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

mod failures;
mod success;

proptest! {
    #[test]
    fn f10_no_answer_makes_the_reader_panic(
        status in 100u16..1000,
        content_type in "(application/json|text/(plain|html)|application/x-www-form-urlencoded)?",
        body: Vec<u8>,
        strict: bool,
    ) {
        let rules = if strict { STRICT } else { LENIENT };
        let _ = read_with(&rules, &answer(status, &content_type, body));
    }

    #[test]
    fn f10_no_json_makes_the_reader_panic(
        status in prop_oneof![Just(200u16), Just(400), Just(503)],
        name in "(expires_in|expires_on|refresh_in|not_before|scope|error|ok|refresh_token)",
        value in prop_oneof![
            any::<f64>().prop_map(|number| serde_json::json!(number)),
            any::<i64>().prop_map(|number| serde_json::json!(number)),
            any::<String>().prop_map(|text| serde_json::json!(text)),
            proptest::collection::vec(any::<String>(), 0..4).prop_map(|texts| serde_json::json!(texts)),
        ],
        strict: bool,
    ) {
        let rules = Rules { max_lifetime: Duration::MAX, ..if strict { STRICT } else { LENIENT } };
        let body = bearer(&format!(",\"{name}\":{value}"));
        match read_with(&rules, &answer(status, JSON, body)) {
            Ok(token) => prop_assert_eq!(token.access_token().expose(), "t"),
            Err(error) => {
                let text = error.to_string();
                prop_assert!(text.len() <= 1024 && text.bytes().all(|b| (0x20..0x7f).contains(&b)));
            }
        }
    }
}
