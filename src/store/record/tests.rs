use serde_json::json;

use super::*;
use crate::source::Identity;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn record() -> Record {
    let mut scopes = Scopes::default();
    scopes.insert("a").unwrap();
    let set = TokenSet::bearer("access")
        .unwrap()
        .with_refresh_token("refresh")
        .with_lifetime(Duration::from_secs(100))
        .with_refresh_in(Duration::from_secs(40))
        .with_scopes(scopes)
        .with_members(Members::from_value(json!({ "instance_url": "https://x.example" })).unwrap());
    Record {
        stamp: Arc::new(Stamp::new(&Identity::new("https://as.example/token", "c"), "d")),
        origin: Some("o".to_owned()),
        generation: 7,
        state: RecordState::Intent,
        tokens: Some(Tokens::new(set, at(1000))),
    }
}

#[test]
fn a_record_survives_json() {
    let read = Record::from_json(record().to_json().expose()).unwrap();
    assert_eq!(read.to_json(), record().to_json());
    assert_eq!((read.generation(), read.state()), (7, RecordState::Intent));
    let tokens = read.tokens.unwrap();
    assert_eq!(tokens.obtained_at, Some(at(1000)));
    assert_eq!(tokens.expires_at, Some(at(1100)));
    assert_eq!(tokens.set.member("instance_url").unwrap(), "https://x.example");
    assert!(tokens.set.scopes().unwrap().contains("a"));

    let bare = Record { tokens: None, origin: None, ..record() };
    let read = Record::from_json(bare.to_json().expose()).unwrap();
    assert!(read.tokens.is_none() && read.origin.is_none());
}

#[test]
fn trs_08_not_before_is_stored_and_holds_for_who_adopts_the_token() {
    let set = TokenSet::bearer("t").unwrap().with_lifetime(Duration::from_secs(100));
    let set = set.with_usable_in(Duration::from_secs(40));
    let stored = Record { tokens: Some(Tokens::new(set, at(1000))), ..record() };
    let tokens = Record::from_json(stored.to_json().expose()).unwrap().tokens.unwrap();
    let adopted = tokens.adopted(at(1010));
    let usable_at = adopted.sent_at().unwrap() + adopted.usable_in().unwrap();
    let left = usable_at.duration_since(Instant::now());
    assert!(left > Duration::from_secs(29) && left <= Duration::from_secs(30), "{left:?}");
}

#[test]
fn debug_shows_no_token() {
    let shown = format!("{:?}", record());
    assert!(!shown.contains("access") && !shown.contains("\"refresh"), "{shown}");
    assert!(shown.contains("generation: 7"), "{shown}");
}

/// A bound token is one of another process' until whoever reads it shows the key.
#[test]
fn rfr_12_a_bound_token_is_not_read_as_a_bearer_token() {
    let mut bound = record();
    bound.tokens.as_mut().unwrap().is_bound = true;
    let read = Record::from_json(bound.to_json().expose()).unwrap();
    let tokens = read.tokens.unwrap();
    assert!(tokens.is_bound);
    assert!(tokens.with_key_of(&Identity::new("https://as.example/token", "c")).is_none());

    let mut certified = record();
    certified.tokens.as_mut().unwrap().needs_certificate = true;
    let read = Record::from_json(certified.to_json().expose()).unwrap();
    assert!(read.tokens.unwrap().lacks_certificate());
    assert!(!record().tokens.unwrap().lacks_certificate());
}

#[test]
fn f55_what_is_left_of_a_life_is_never_more_than_all_of_it() {
    let tokens = record().tokens.unwrap();
    for (now, left) in [(1000, 100), (1060, 40), (1100, 0), (5000, 0), (10, 100), (0, 100)] {
        assert_eq!(tokens.left(at(now)), Some(Duration::from_secs(left)), "{now}");
    }
    let unknown = Tokens::new(TokenSet::bearer("t").unwrap(), at(1000));
    assert_eq!(unknown.left(at(1000)), None);
}

#[tokio::test]
async fn f55_an_adopted_token_lives_for_what_is_left() {
    let tokens = record().tokens.unwrap();
    let adopted = tokens.adopted(at(1030));
    assert_eq!(adopted.lifetime(), Some(Duration::from_secs(100)));
    assert_eq!(adopted.sent_at().unwrap().elapsed().as_secs(), 30);
    assert_eq!(adopted.refresh_in(), tokens.set.refresh_in());
    assert_eq!(adopted.refresh_token(), tokens.set.refresh_token());
}

/// Nobody said how long it lives, and each process that took it from the store gave it a new hour.
#[tokio::test]
async fn f55_an_adopted_token_of_unknown_lifetime_counts_from_when_it_was_obtained() {
    let mut record = record();
    record.tokens = Some(Tokens::new(TokenSet::bearer("t").unwrap(), at(1000)));
    let json = record.to_json().expose().to_owned();
    let age = |json: &str, now| {
        let tokens = Record::from_json(json).unwrap().tokens.unwrap();
        let adopted = tokens.adopted(at(now));
        assert_eq!(adopted.lifetime(), None);
        adopted.sent_at().unwrap().elapsed().as_secs()
    };
    assert_eq!(age(&json, 1000), 0);
    assert_eq!(age(&json, 1030), 30);
    assert_eq!(age(&json, 900), 0, "the clock was set back");
    // As it was written before.
    let old = json.replace("\"obtained_at_ms\":1000000,", "");
    assert_ne!(old, json);
    assert_eq!(age(&old, 1030), 0);
}

#[test]
fn f48_a_record_of_a_newer_version_is_refused() {
    let text = record().to_json().expose().replace(r#""version":1"#, r#""version":2"#);
    let error = Record::from_json(&text).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[test]
fn whatever_is_no_record_is_refused_and_not_repeated() {
    for text in ["", "{}", "[]", "null", r#"{"version":1}"#, r#"{"version":"1"}"#, "\u{0}hunter2"] {
        let error = Record::from_json(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store, "{text}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    let text = record().to_json().expose().replace("Bearer", "mac");
    assert!(Record::from_json(&text).unwrap_err().to_string().contains("unknown type"));
    let text = record().to_json().expose().replace("\"access\"", "\"a\\nb\"");
    assert!(Record::from_json(&text).is_err());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,60}", at in 0usize..400, with in ".{0,3}") {
        let _ = Record::from_json(&text);
        let mut whole = record().to_json().expose().to_owned();
        if whole.is_char_boundary(at) {
            whole.insert_str(at, &with);
        }
        let _ = Record::from_json(&whole);
    }
}

#[test]
fn tokens_are_the_same_if_both_of_them_are() {
    let tokens = |access, refresh| {
        let set = TokenSet::bearer(access).unwrap().with_refresh_token(refresh);
        Tokens::new(set, at(1000))
    };
    let later = Tokens::new(tokens("a", "r").set.as_ref().clone(), at(2000));
    assert!(tokens("a", "r") == later, "whatever is known of them");
    for other in [tokens("b", "r"), tokens("a", "s"), tokens("b", "s")] {
        assert!(tokens("a", "r") != other);
    }
}
