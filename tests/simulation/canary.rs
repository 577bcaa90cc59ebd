//! Every secret holds a mark, and the mark must not be found where secrets do not belong.

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};

/// With a character that forms and URLs write in another way.
const MARK: &str = "cAnArY+9eEp";

/// A secret, which says what it is and which one.
pub(crate) fn secret(kind: &str, key: usize, number: usize) -> String {
    format!("{kind}.{key}.{number}.{MARK}")
}

/// The number of a secret of this kind; `None` if it is none.
pub(crate) fn number_of(kind: &str, secret: &str) -> Option<usize> {
    let mut parts = secret.split('.');
    if parts.next()? != kind {
        return None;
    }
    let _key = parts.next()?;
    let number = parts.next()?.parse().ok()?;
    (parts.next()? == MARK).then_some(number)
}

/// How a mark was written that was found in a text.
pub(crate) fn find(text: &str) -> Option<&'static str> {
    static FORMS: LazyLock<Vec<(&str, String)>> = LazyLock::new(forms);
    FORMS.iter().find(|(_, form)| text.contains(form.as_str())).map(|(how, _)| *how)
}

fn forms() -> Vec<(&'static str, String)> {
    let hex: Vec<_> = MARK.bytes().map(|b| format!("{b:02x}")).collect();
    let list: Vec<_> = MARK.bytes().map(|b| b.to_string()).collect();
    let mut forms = vec![
        ("as it is", MARK.to_owned()),
        ("in lower case", MARK.to_lowercase()),
        ("in a form", MARK.replace('+', "%2B")),
        ("in hex", hex.concat()),
        ("as a list of bytes", list.join(", ")),
    ];
    for offset in 0..3_usize {
        let all = BASE64_STANDARD_NO_PAD.encode([&vec![0; offset], MARK.as_bytes()].concat());
        // Without what depends on the neighbours.
        let (first, end) = ((offset * 8).div_ceil(6), (offset + MARK.len()) * 8 / 6);
        forms.push(("in base64", all[first..end].to_owned()));
    }
    forms
}

#[test]
fn i4_a_mark_is_found_however_it_is_written() {
    let secret = secret("at", 3, 7);
    assert_eq!(number_of("at", &secret), Some(7));
    assert_eq!(number_of("rt", &secret), None);
    let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    for text in [secret.clone(), secret.to_lowercase(), form, format!("{:?}", secret.as_bytes())] {
        assert!(find(&text).is_some(), "{text}");
    }
    for before in ["", "a", "ab"] {
        let text = BASE64_STANDARD_NO_PAD.encode(format!("{before}{secret}"));
        assert_eq!(find(&text), Some("in base64"));
    }
    assert_eq!(find("Bearer [redacted] cAnArY"), None);
}
