use form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

/// Encodes a value as `application/x-www-form-urlencoded` ([RFC 6749 App. B]): UTF-8 first, then
/// a space as `+` and all but `* - . _`, digits and letters as `%XX`.
///
/// [RFC 6749 App. B]: https://www.rfc-editor.org/rfc/rfc6749#appendix-B
pub(crate) fn form_encoded(value: &str) -> Zeroizing<String> {
    let mut out = wiped_string(encoded_bound(value));
    push_form_encoded(&mut out, value);
    out
}

/// Appends an encoded value. The string must have room for it: see [`encoded_bound`].
pub(crate) fn push_form_encoded(out: &mut String, value: &str) {
    out.extend(byte_serialize(value.as_bytes()));
}

/// Appends a value as [`push_form_encoded`] does, but a space as `%20`.
pub(crate) fn push_percent_encoded(out: &mut String, value: &str) {
    // A plus sign that was in the value is `%2B` by now.
    out.extend(byte_serialize(value.as_bytes()).map(|part| if part == "+" { "%20" } else { part }));
}

/// The most bytes that a value can have once it is encoded.
pub(crate) fn encoded_bound(value: &str) -> usize {
    value.len().saturating_mul(3)
}

/// An empty string that is wiped on drop. One that outgrows its room leaves a copy behind, so the
/// room is for all that will be in it.
pub(crate) fn wiped_string(room: usize) -> Zeroizing<String> {
    Zeroizing::new(String::with_capacity(room))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trq_02_values_are_utf_8_first_and_then_form_encoded() {
        // RFC 6749 App. B
        assert_eq!(*form_encoded(" %&+£€"), "+%25%26%2B%C2%A3%E2%82%AC");
    }

    #[test]
    fn an_encoded_value_never_outgrows_its_room() {
        for value in ["", "a", "%%%%", "\u{10ffff}\u{10ffff}", "пароль"] {
            let room = wiped_string(encoded_bound(value)).capacity();
            assert_eq!(form_encoded(value).capacity(), room, "{value:?}");
        }
    }
}
