//! Finds a secret in a text, however it is written.

use base64::{
    Engine,
    engine::{GeneralPurpose, general_purpose::NO_PAD},
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};

/// A secret that must not be found.
#[derive(Debug, Clone)]
pub(crate) struct Canary {
    name: &'static str,
    value: String,
}

impl Canary {
    /// Both halves of it are looked for, so that one which was cut is found too.
    pub(crate) fn new(name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        assert!(value.len() >= 2 * SHORTEST, "{name} could be found by chance");
        Self { name, value }
    }

    fn halves(&self) -> [&str; 2] {
        let middle = self.value.len() / 2;
        let middle = (middle..=middle + 3).find(|at| self.value.is_char_boundary(*at));
        let (first, second) = self.value.split_at(middle.unwrap());
        [first, second]
    }
}

/// A text to be searched, in the forms that a search needs.
pub(crate) struct Haystack {
    text: String,
    lower: String,
    /// In lower case and without white space: lists over several lines become one.
    dense: String,
}

impl Haystack {
    pub(crate) fn new(text: &str) -> Self {
        let lower = text.to_lowercase();
        let dense = lower.split_whitespace().collect();
        Self { text: text.to_owned(), lower, dense }
    }

    /// Where a secret was found, and how it was written there.
    pub(crate) fn find(&self, canary: &Canary) -> Vec<String> {
        let mut found = Vec::new();
        for half in canary.halves() {
            let mut look = |how: &str, text: &str, needle: &str| {
                if let Some((before, after)) = text.split_once(needle) {
                    let start = before.char_indices().rev().take(CONTEXT).last();
                    let before = start.map_or("", |(start, _)| &before[start..]);
                    let after: String = after.chars().take(CONTEXT).collect();
                    found.push(format!("{}, {how}: {before:?} >> {after:?}", canary.name));
                }
            };
            let bytes = half.as_bytes();
            look("as it is", &self.lower, &half.to_lowercase());
            look("escaped", &self.lower, &half.escape_default().to_string().to_lowercase());
            let form: String = form_urlencoded::byte_serialize(bytes).collect();
            look("in a form", &self.lower, &form.to_lowercase());
            let url = form.replace('+', "%20");
            look("in a URL", &self.lower, &url.to_lowercase());
            let list = |item: fn(&u8) -> String, separator| {
                bytes.iter().map(item).collect::<Vec<_>>().join(separator)
            };
            look("percent-encoded", &self.lower, &list(|b| format!("%{b:02x}"), ""));
            look("in hex", &self.lower, &list(|b| format!("{b:02x}"), ""));
            look("in hex with colons", &self.lower, &list(|b| format!("{b:02x}"), ":"));
            look("as a list of bytes", &self.dense, &list(ToString::to_string, ","));
            look("as a list of hex bytes", &self.dense, &list(|b| format!("0x{b:02x}"), ","));
            look("as escaped bytes", &self.lower, &list(|b| format!("\\x{b:02x}"), ""));
            for (how, engine) in
                [("base64", BASE64_STANDARD_NO_PAD), ("base64url", BASE64_URL_SAFE_NO_PAD)]
            {
                for offset in 0..3 {
                    look(how, &self.text, &base64_within(&engine, bytes, offset));
                }
            }
        }
        found
    }
}

/// What base64 makes of these bytes after `offset` other ones, without what depends on their
/// neighbours.
fn base64_within(engine: &GeneralPurpose, bytes: &[u8], offset: usize) -> String {
    let all = engine.encode([&vec![0; offset], bytes].concat());
    let first = (offset * 8).div_ceil(6);
    let end = (offset + bytes.len()) * 8 / 6;
    all[first..end].to_owned()
}

/// A half of a canary has at least this many bytes.
const SHORTEST: usize = 8;
const CONTEXT: usize = 120;

const SECRET: &str = "kA9+z/Q x%é&=T3r~Vu";

fn is_found(text: &str) -> bool {
    !Haystack::new(text).find(&Canary::new("secret", SECRET)).is_empty()
}

#[test]
fn a_secret_is_found_in_every_encoding_and_from_either_half() {
    let [first, second] = Canary::new("secret", SECRET).halves().map(str::to_owned);
    for secret in [SECRET, &first, &second] {
        let bytes = secret.as_bytes();
        let form: String = form_urlencoded::byte_serialize(bytes).collect();
        let hex: Vec<_> = bytes.iter().map(|b| format!("{b:02X}")).collect();
        for shown in [
            secret.to_owned(),
            secret.to_uppercase(),
            secret.escape_default().to_string(),
            form.replace('+', "%20"),
            form.to_lowercase(),
            form,
            format!("%{}", hex.join("%")),
            hex.concat(),
            hex.join(":"),
            format!("\\x{}", hex.join("\\x").to_lowercase()),
            format!("[0x{}]", hex.join(", 0x")),
            format!("{bytes:?}"),
            format!("{bytes:#?}"),
            format!("{:?}", Some(vec![bytes])),
        ] {
            assert!(is_found(&format!("before {shown} after")), "{shown}");
        }
    }
}

#[test]
fn a_secret_is_found_in_base64_at_every_alignment() {
    use base64::alphabet::{STANDARD, URL_SAFE};
    for alphabet in [&STANDARD, &URL_SAFE] {
        let engine = GeneralPurpose::new(alphabet, NO_PAD);
        for before in ["", "a", "ab", "abc", "id:"] {
            for after in ["", "x", "xy", "xyz"] {
                let encoded = engine.encode(format!("{before}{SECRET}{after}"));
                assert!(is_found(&format!("Basic {encoded}==")), "{before}{after}");
            }
        }
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let other = "kA9+z/Q x%é&=T3r~Vu".replace(['z', 'T'], "-");
    assert!(!is_found(&format!("{other} {:?} {other:#?}", other.as_bytes())));
    assert!(!is_found(&BASE64_STANDARD_NO_PAD.encode(&other)));
}
