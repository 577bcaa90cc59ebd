//! Finds a few texts in an answer that is not JSON throughout. Called when the real parser fails.

use std::ops::Range;

use super::object::without_mark;
use crate::secret::Secret;

/// The texts that matter although the rest of an answer cannot be read.
#[derive(Default)]
pub(crate) struct Salvaged {
    pub(crate) access_token: Option<Secret>,
    /// It has replaced the one that was sent.
    pub(crate) refresh_token: Option<Secret>,
    /// The error code; `None` if there are two.
    pub(crate) error: Option<String>,
}

/// Looks for the members of the object behind these names: of the whole answer, if there are none.
///
/// A fault in another member, such as half a surrogate pair, a number without end, a raw line break or
/// bytes that are not UTF-8, must cost neither a refresh token nor the end of a grant. So this knows of
/// JSON only where strings end and how deep it is. It reads the bytes once, and copies nothing but what
/// it returns.
pub(crate) fn salvage(body: &[u8], path: &[String]) -> Salvaged {
    let body = without_mark(body);
    // A page may show JSON.
    if !matches!(body.first(), Some(b'{' | b'[')) {
        return Salvaged::default();
    }
    let mut scan = Scan { body, path, depth: 0, matched: 0, index: 0, key: None, is_value: false };
    let mut found = Salvaged::default();
    let mut errors = 0_usize;
    let mut at = 0;
    while let Some(byte) = body.get(at) {
        match byte {
            b'"' => {
                let text = string(body, at);
                at = text.end;
                if let Some(name) = scan.string(text.clone()) {
                    let value = body.get(text).unwrap_or_default();
                    match &*name {
                        "access_token" => keep(&mut found.access_token, value),
                        "refresh_token" => keep(&mut found.refresh_token, value),
                        "error" => {
                            errors = errors.saturating_add(1);
                            found.error = decoded(value).filter(|code| code.len() <= LONGEST_CODE);
                        }
                        _ => {}
                    }
                }
                continue;
            }
            b'{' | b'[' => scan.open(*byte == b'['),
            b'}' | b']' => {
                scan.close();
                if scan.depth == 0 {
                    break;
                }
            }
            b':' if scan.is_on_path() => scan.is_value = scan.key.is_some(),
            b',' => scan.next(),
            _ => {}
        }
        at = at.saturating_add(1);
    }
    found.error = found.error.filter(|code| errors == 1 && !code.is_empty());
    found
}

/// Where the scan is.
struct Scan<'a> {
    body: &'a [u8],
    /// The names that lead to the object.
    path: &'a [String],
    depth: usize,
    /// How many names of the path lead to where the scan is.
    matched: usize,
    /// How many values of an array on the path lie behind; of no use in an object.
    index: usize,
    /// The name of a member on the path, until its value is over.
    key: Option<Range<usize>>,
    /// Whether a value comes next, and not a name.
    is_value: bool,
}

impl Scan<'_> {
    /// Whether the scan is in the innermost container of the path so far, and not within its values.
    fn is_on_path(&self) -> bool {
        self.depth == self.matched.saturating_add(1)
    }

    fn string(&mut self, text: Range<usize>) -> Option<String> {
        if !self.is_on_path() {
            return None;
        }
        if !self.is_value {
            self.key = Some(text);
            return None;
        }
        let name = self.name().filter(|_| self.matched == self.path.len());
        if self.key.take().is_some() {
            self.is_value = false;
        }
        name
    }

    fn open(&mut self, is_array: bool) {
        let leads_on = self.depth == 0 || (self.is_on_path() && self.leads_on());
        if leads_on {
            if self.depth > 0 {
                self.matched = self.matched.saturating_add(1);
            }
            self.index = 0;
            self.key = None;
            // An array's values have no names. Its index stands in for one.
            self.is_value = is_array;
        }
        self.depth = self.depth.saturating_add(1);
    }

    /// Whether the value that begins is the next on the path.
    fn leads_on(&self) -> bool {
        let Some(name) = self.path.get(self.matched) else { return false };
        match &self.key {
            Some(_) => self.is_value && self.name().as_ref() == Some(name),
            None => self.is_value && self.index.to_string() == *name,
        }
    }

    fn close(&mut self) {
        if self.is_on_path() {
            // What follows is not on the path any more: nothing there counts twice.
            self.matched = self.matched.saturating_sub(1);
            self.key = None;
            self.is_value = false;
        }
        self.depth = self.depth.saturating_sub(1);
    }

    /// The next member, or the next value of an array.
    fn next(&mut self) {
        if self.is_on_path() {
            self.index = self.index.saturating_add(1);
            self.is_value = self.key.is_none() && self.is_value;
            self.key = None;
        }
    }

    fn name(&self) -> Option<String> {
        let key = self.body.get(self.key.clone()?)?;
        if key.len() > LONGEST_NAME { None } else { decoded(key) }
    }
}

/// A string with its quotes: where it stands.
fn string(body: &[u8], start: usize) -> Range<usize> {
    let mut at = start.saturating_add(1);
    while let Some(byte) = body.get(at) {
        match byte {
            b'"' => return start..at.saturating_add(1),
            b'\\' => at = at.saturating_add(2),
            _ => at = at.saturating_add(1),
        }
    }
    start..body.len()
}

/// The first one counts, as elsewhere.
fn keep(found: &mut Option<Secret>, value: &[u8]) {
    if found.is_none() {
        *found = decoded(value).filter(|text| !text.is_empty()).map(Secret::from);
    }
}

/// `None` for a string that is broken itself.
fn decoded(string: &[u8]) -> Option<String> {
    serde_json::from_slice(string).ok()
}

const LONGEST_NAME: usize = 256;
const LONGEST_CODE: usize = 100;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refresh_token(path: &[&str], body: &[u8]) -> Option<String> {
        let path: Vec<_> = path.iter().map(|name| (*name).to_owned()).collect();
        salvage(body, &path).refresh_token.map(|token| token.expose().to_owned())
    }

    #[test]
    fn f87_texts_are_found_at_the_top_and_nowhere_else() {
        for body in [
            &br#"{"x":"\ud83d","refresh_token":"R1"}"#[..],
            br#"{"refresh_token" : "R1" , "x":1e400}"#,
            b"{\"x\":\"a\nb\",\"refresh_token\":\"R1\"}",
            b"{\"x\":\"\xE9\",\"refresh_token\":\"R1\"}\0",
            br#"{"x":NaN,"refresh_token":"R1",}"#,
            br#"{"x":{"refresh_token":"R2","y":[{"refresh_token":"R3"}]},"refresh_token":"R1"}"#,
            br#"{"refresh_token":"R1","refresh_token":"R2""#,
            br#"{"x":"\"refresh_token\":\"R2\"","refresh\u005ftoken":"R\u0031"}"#,
            br#"{"x":"\\","refresh_token":"R1"}{"refresh_token":"R2"}"#,
            b"\xEF\xBB\xBF {\"a\":\"refresh_token\",\"refresh_token\":\"R1\"",
        ] {
            let found = refresh_token(&[], body);
            assert_eq!(found.as_deref(), Some("R1"), "{}", String::from_utf8_lossy(body));
        }
        for body in [
            r#"{"x":{"refresh_token":"R1"}}"#,
            r#"["refresh_token","R1"]"#,
            r#"[{"refresh_token":"R1"}]"#,
            r#"{"refresh_token":{"a":"R1"}}"#,
            r#"{"refresh_token":"R\ud83d"}"#,
            r#"{"refresh_token":"R1"#,
            r#"{"refresh_token":["R1"]}"#,
            r#"{"refresh_token""R1"}"#,
            r#"{"refresh_token":"""#,
            "",
            "refresh_token=R1",
        ] {
            assert_eq!(refresh_token(&[], body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn f87_a_path_leads_to_an_object_within() {
        let body =
            br#"{"refresh_token":"R0","a":[{"refresh_token":"R1"},{"b":1,"refresh_token":"R2",
            "c":{"refresh_token":"R3"}}],"x":"\ud83d"}"#;
        for (path, expected) in [
            (&["a", "0"][..], Some("R1")),
            (&["a", "1"], Some("R2")),
            (&["a", "1", "c"], Some("R3")),
            (&["a"], None),
            (&["a", "2"], None),
            (&["c"], None),
        ] {
            assert_eq!(refresh_token(path, body).as_deref(), expected, "{path:?}");
        }
        assert_eq!(refresh_token(&["0"], br#"[{"refresh_token":"R1","x":1e400}]"#).unwrap(), "R1");
    }

    #[test]
    fn f88_two_error_codes_are_none() {
        let error = |body: &str| salvage(body.as_bytes(), &[]).error;
        assert_eq!(error(r#"{"error":"a","x":1e400}"#).as_deref(), Some("a"));
        assert_eq!(error(r#"{"error":"a","error":"b","x":1e400}"#), None);
        assert_eq!(error(r#"{"error":"","x":1e400}"#), None);
    }

    proptest! {
        #[test]
        fn f10_no_bytes_make_the_scan_panic(body: Vec<u8>) {
            let _ = salvage(&body, &[]);
        }

        #[test]
        fn it_agrees_with_the_parser(
            body in r#"\{("(a|refresh_token)":("R1"|1|\[("R2",)*\{"refresh_token":"R3"\}\]|\{"a":"x","refresh_token":"R4"\}),){0,4}"b":null\}"#,
            path in prop_oneof![Just(vec![]), Just(vec!["a"]), Just(vec!["a", "0"])],
        ) {
            let value: serde_json::Value = serde_json::from_str(&body).unwrap();
            // What leads there twice, or is there twice, is another matter.
            prop_assume!(body.matches("\"a\":").count() <= 1);
            let pointer = path.iter().fold(String::new(), |to, name| format!("{to}/{name}"));
            let object = value.pointer(&pointer).and_then(|found| found.as_object());
            let expected = object.and_then(|object| object.get("refresh_token")?.as_str());
            prop_assume!(object.is_none_or(|_| body.matches("refresh_token\":").count() <= 1));
            let found = refresh_token(&path, body.as_bytes());
            prop_assert_eq!(found.as_deref(), expected);
        }
    }
}
