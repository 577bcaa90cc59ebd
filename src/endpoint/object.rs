use std::fmt;

use http::{HeaderMap, header::CONTENT_TYPE};
use serde_json::Value;

use crate::{
    http::{Answer, BrokenJson, MOST_VALUES, Member, body_limit, from_json, is_too_much},
    secret::Members,
};

/// The members of an answer, and whether one of them stood there twice.
#[derive(Default)]
pub(crate) struct Object {
    pub(crate) members: Members,
    /// A member that this crate acts on, and that stood there twice.
    pub(crate) repeated: Option<&'static str>,
    /// Whether any member stood there twice, known or not, at any level.
    pub(crate) repeats: bool,
}

/// Why an answer has no members. It holds nothing of the answer: any part may be a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotAnObject {
    /// It begins like a JSON object and is none.
    Json { line: usize, column: usize },
    /// It has more values than any server sends.
    TooLarge,
    /// It is something else.
    Other,
}

/// Reads the body of an answer: see [`object`].
pub(crate) fn object_of(answer: &Answer) -> Result<Object, NotAnObject> {
    object(answer.headers(), answer.body(), body_limit(answer))
}

/// Reads a body by what it is, and by its content type only where that decides.
///
/// A JSON object is taken whatever its label: gateways label it `text/html`, `text/plain` or
/// `text/javascript`. A form has no mark of its own, so it needs its label or `text/plain`; a page
/// that happens to contain `access_token=` is not a form.
///
/// `limit` is the size that the body might have: its values take at most twice that.
pub(crate) fn object(
    headers: &HeaderMap,
    body: &[u8],
    limit: usize,
) -> Result<Object, NotAnObject> {
    let body = without_mark(body);
    if body.first() == Some(&b'{') {
        let mut object = Object::default();
        let outcome = from_json(body, limit, |member| object.add(member));
        return outcome.map(|()| object).map_err(|BrokenJson { line, column, is_too_large }| {
            if is_too_large { NotAnObject::TooLarge } else { NotAnObject::Json { line, column } }
        });
    }
    let plain_or_form = matches!(
        media_type(headers).as_deref(),
        Some("application/x-www-form-urlencoded" | "text/plain")
    );
    let body = body.trim_ascii_end();
    if !plain_or_form || !looks_like_a_form(body) {
        return Err(NotAnObject::Other);
    }
    if is_too_much(count_of_pairs(body), body.len(), limit) {
        return Err(NotAnObject::TooLarge);
    }
    Ok(form(body))
}

/// Returns the media type in lower case, without parameters. What stands in those does not matter.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.as_bytes();
    let media_type = value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    std::str::from_utf8(media_type).ok().map(str::to_ascii_lowercase)
}

/// The body without a byte order mark and white space before it.
pub(crate) fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii_start()
}

/// An encoder leaves no white space, quotes or angle brackets: what has them is text or a page.
fn looks_like_a_form(body: &[u8]) -> bool {
    !body.is_empty() && body.iter().all(|b| b.is_ascii_graphic() && !b"<>\"".contains(b))
}

fn form(body: &[u8]) -> Object {
    let mut object = Object::default();
    for (name, value) in form_urlencoded::parse(body) {
        object.insert(name.into_owned(), Value::String(value.into_owned()));
    }
    object
}

fn count_of_pairs(form: &[u8]) -> usize {
    form.split(|b| *b == b'&').count()
}

impl Object {
    /// Adds a member of a JSON object.
    pub(super) fn add(&mut self, Member { name, value, repeats_within }: Member) {
        self.insert(name, value);
        self.repeats |= repeats_within;
    }

    /// RFC 6749 §3.2: "Request and response parameters MUST NOT be included more than once."
    fn insert(&mut self, name: String, value: Value) {
        let known = PROTOCOL_MEMBERS.iter().find(|known| **known == name).copied();
        if !self.members.insert(name, value) {
            // Of several, the one that decides most.
            self.repeated = known.filter(|name| *name == "error").or(self.repeated).or(known);
            self.repeats = true;
        }
    }
}

impl fmt::Display for NotAnObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json { line, column } => {
                write!(f, "its JSON is broken at line {line} column {column}")
            }
            Self::TooLarge => write!(
                f,
                "it has more than {MOST_VALUES} values, or takes more memory than answers may"
            ),
            Self::Other => f.write_str("it is not a JSON object"),
        }
    }
}

/// The members that this crate acts on, and those it must not take from the wrong place.
const PROTOCOL_MEMBERS: &[&str] = &[
    "access_token",
    "token_type",
    "expires_in",
    "expires_on",
    "refresh_in",
    "not_before",
    "refresh_token",
    "scope",
    "id_token",
    "issued_token_type",
    "active",
    "ok",
    "error",
    "error_description",
    "error_uri",
];

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1024 * 1024;

    fn read(content_type: &str, body: &[u8]) -> Result<Object, NotAnObject> {
        let mut headers = HeaderMap::new();
        if !content_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
        }
        object(&headers, body, LIMIT)
    }

    #[test]
    fn trs_14_json_is_taken_whatever_its_label_and_a_form_only_with_one() {
        let json = br#"{"access_token":"t"}"#;
        let marked = b"\xEF\xBB\xBF \r\n{\"access_token\":\"t\"}\n";
        let form = b"access_token=t&scope=repo%2Cgist\n";
        let page = b"<html>access_token=t</html>";
        for (content_type, is_form) in [
            ("application/json", false),
            ("application/json; charset=utf-8", false),
            ("text/html", false),
            ("text/javascript", false),
            ("", false),
            ("text/plain", true),
            ("Application/X-WWW-Form-Urlencoded;charset=utf-8", true),
            // Only the type itself has to be readable.
            ("text/plain; title=é", true),
            ("text/plainé", false),
        ] {
            for body in [&json[..], &marked[..]] {
                let object = read(content_type, body).unwrap();
                assert_eq!(object.members.get("access_token"), Some(&"t".into()), "{content_type}");
            }
            let found = read(content_type, form).ok();
            let token = found.as_ref().and_then(|object| object.members.get("access_token"));
            assert_eq!(token.is_some(), is_form, "{content_type}");
            let found = read(content_type, page).ok();
            let token = found.as_ref().and_then(|object| object.members.get("access_token"));
            assert_eq!(token, None, "{content_type}");
        }
    }

    #[test]
    fn trs_14_text_and_pages_are_no_forms() {
        for body in ["<a>&access_token=t", "look: &access_token=t", "\"&access_token=t\""] {
            assert!(read("text/plain", body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn trs_12_a_protocol_member_that_stands_twice_is_seen() {
        for (body, repeated) in [
            (r#"{"access_token":"a","access_token":"b"}"#, Some("access_token")),
            (r#"{"access_token":"a","access\u005ftoken":"b"}"#, Some("access_token")),
            (r#"{"state":"a","state":"b"}"#, None),
            (r#"{"nested":{"access_token":"a"},"access_token":"b"}"#, None),
        ] {
            assert_eq!(read("application/json", body.as_bytes()).unwrap().repeated, repeated);
        }
        assert_eq!(read("text/plain", b"scope=a&scope=b").unwrap().repeated, Some("scope"));
    }

    #[test]
    fn trs_15_what_is_not_one_whole_object_is_refused() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        let very_deep = format!("{{\"a\":{}", "[".repeat(500_000));
        for body in ["[]", "\"a\"", "1", "null", "", "{", "{\"a\":1", "{}x", "{\"a\":1e400}"] {
            assert!(read("application/json", body.as_bytes()).is_err(), "{body}");
        }
        assert!(read("application/json", deep.as_bytes()).is_err());
        assert!(read("application/json", very_deep.as_bytes()).is_err());
        let ignored = format!("{{\"a\":{}1{}}}", "[".repeat(100), "]".repeat(100));
        assert!(read("application/json", ignored.as_bytes()).is_ok());
    }

    #[test]
    fn f13_what_is_wrong_with_the_json_does_not_repeat_it() {
        let error = read("application/json", br#"{"access_token":"hunter2" x}"#).err().unwrap();
        assert_eq!(error.to_string(), "its JSON is broken at line 1 column 27");
    }

    proptest! {
        #[test]
        fn f10_no_bytes_make_the_reader_panic(body: Vec<u8>, plain: bool) {
            let _ = read(if plain { "text/plain" } else { "application/json" }, &body);
        }
    }
}
