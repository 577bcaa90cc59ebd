use http::{HeaderMap, HeaderName};

/// The nonce that a response brings, if there is exactly one that can be sent back
/// ([RFC 9449 §8.1](https://www.rfc-editor.org/rfc/rfc9449#section-8.1)).
pub(crate) fn nonce(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(&DPOP_NONCE).iter();
    let (Some(value), None) = (lines.next(), lines.next()) else { return None };
    let text = std::str::from_utf8(value.as_bytes()).ok()?;
    // RFC 9449 §8.1: nonce = 1*NQCHAR; RFC 6749 App. A: NQCHAR = %x21 / %x23-5B / %x5D-7E. So it
    // needs no escape in JSON either.
    let allowed = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
    (!text.is_empty() && text.len() <= NONCE_CAP && text.bytes().all(allowed)).then_some(text)
}

const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
const NONCE_CAP: usize = 4096;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(lines: &[&[u8]]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(DPOP_NONCE, HeaderValue::from_bytes(line).unwrap());
        }
        nonce(&headers).map(str::to_owned)
    }

    #[test]
    fn dpo_10_a_nonce_is_taken_only_if_it_is_one_and_can_be_sent_back() {
        assert_eq!(of(&[b"eyJ7S_zG.eyJH0-Z.HX4w-7v"]).unwrap(), "eyJ7S_zG.eyJH0-Z.HX4w-7v");
        assert_eq!(of(&[&[b'!'; 4096]]).unwrap().len(), 4096);
        let bad: [&[&[u8]]; 8] = [
            &[],
            &[b""],
            &[b"a", b"a"],
            &[b"a b"],
            &[b"a\"b"],
            &[b"a\\b"],
            &["é".as_bytes()],
            &[&[b'!'; 4097]],
        ];
        for lines in bad {
            assert_eq!(of(lines), None, "{lines:?}");
        }
    }
}
