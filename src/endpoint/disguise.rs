//! Undoes the encodings in which a server may repeat a secret. Called by the redactor.

use std::collections::HashSet;

use zeroize::Zeroizing;

/// A text in every form that it may be an encoding of.
///
/// It is decoded, not searched for a list of encodings: servers differ in which characters they
/// encode, and in upper and lower case.
pub(super) struct Undisguised {
    forms: Zeroizing<Vec<u8>>,
    /// Each piece of them that is as long as [`PIECE`].
    pieces: HashSet<[u8; PIECE]>,
}

impl Undisguised {
    /// Decodes a text, which is as short as what an error shows.
    pub(super) fn of(text: &[u8]) -> Self {
        let decoded = decoded(text);
        let mut forms = Zeroizing::new(spaced(&decoded));
        for run in decoded.split(|b| sextet(*b).is_none()).filter(|run| run.len() >= SHORTEST) {
            for start in 0..4 {
                add(&mut forms, &of_base64(run.get(start..).unwrap_or_default()));
            }
        }
        for run in decoded.split(|b| !b.is_ascii_hexdigit()).filter(|run| run.len() >= SHORTEST) {
            for start in 0..2 {
                add(&mut forms, &of_hex(run.get(start..).unwrap_or_default()));
            }
        }
        let pieces = forms.windows(PIECE).filter_map(|piece| piece.try_into().ok()).collect();
        Self { forms, pieces }
    }

    /// Whether the text repeats a secret, or [`PIECE`] bytes of it.
    pub(super) fn repeats(&self, secret: &str) -> bool {
        let secret = secret.as_bytes();
        if self.has(secret) {
            return true;
        }
        // It looks like an encoding itself, so that its decoded form is what is seen.
        let start = secret.get(..LONGEST_DECODED).unwrap_or(secret);
        start.iter().any(|b| b"%\\&".contains(b)) && self.has(&decoded(start))
    }

    fn has(&self, secret: &[u8]) -> bool {
        if secret.len() < SHORTEST {
            return false;
        }
        if secret.len() < PIECE {
            let secret = Zeroizing::new(spaced(secret));
            return self.forms.windows(secret.len()).any(|piece| piece == secret.as_slice());
        }
        secret.windows(PIECE).any(|piece| {
            let mut spaced = [0; PIECE];
            spaced.iter_mut().zip(piece).for_each(|(to, from)| *to = space(*from));
            self.pieces.contains(&spaced)
        })
    }
}

fn add(forms: &mut Vec<u8>, bytes: &[u8]) {
    forms.push(BETWEEN);
    forms.extend(spaced(&decoded(bytes)));
}

/// Forms have a plus sign for a space, and what was decoded once too often has it the other way.
fn space(byte: u8) -> u8 {
    if byte == b'+' { b' ' } else { byte }
}

fn spaced(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().map(space).collect()
}

/// Undoes percent-encoding, the escapes of JSON and those of HTML, until there are none left.
fn decoded(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(bytes.to_vec());
    for _ in 0..MOST_LAYERS {
        let next = Zeroizing::new(decoded_once(&bytes));
        if next == bytes {
            break;
        }
        bytes = next;
    }
    bytes
}

fn decoded_once(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    while let Some((first, rest)) = bytes.split_first() {
        let escape = match first {
            b'%' => rest.get(..2).and_then(hex).map(|code| (Unit::Byte(code), 2)),
            b'\\' => json_escape(rest),
            b'&' => entity(rest),
            _ => None,
        };
        let (unit, length) = escape.unwrap_or((Unit::Byte(u32::from(*first)), 0));
        match unit {
            Unit::Byte(byte) => out.extend(u8::try_from(byte)),
            Unit::Char(code) => {
                let text = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend(text.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        bytes = rest.get(length..).unwrap_or_default();
    }
    out
}

/// What an escape stands for.
enum Unit {
    Byte(u32),
    Char(u32),
}

/// RFC 8259 §7, after the backslash.
fn json_escape(rest: &[u8]) -> Option<(Unit, usize)> {
    match rest.first()? {
        b'u' => rest.get(1..5).and_then(hex).map(|code| (Unit::Char(code), 5)),
        byte @ (b'/' | b'"' | b'\\' | b'\'') => Some((Unit::Byte(u32::from(*byte)), 1)),
        _ => None,
    }
}

/// A character reference of HTML, after the ampersand.
fn entity(rest: &[u8]) -> Option<(Unit, usize)> {
    let end = rest.iter().take(LONGEST_ENTITY).position(|b| *b == b';')?;
    let name = rest.get(..end)?;
    let code = match name {
        b"amp" => u32::from(b'&'),
        b"lt" => u32::from(b'<'),
        b"gt" => u32::from(b'>'),
        b"quot" => u32::from(b'"'),
        b"apos" => u32::from(b'\''),
        [b'#', b'x' | b'X', digits @ ..] => hex(digits)?,
        [b'#', digits @ ..] => std::str::from_utf8(digits).ok()?.parse().ok()?,
        _ => return None,
    };
    Some((Unit::Char(code), end.saturating_add(1)))
}

fn hex(digits: &[u8]) -> Option<u32> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| all)?;
    u32::from_str_radix(text, 16).ok()
}

fn of_hex(run: &[u8]) -> Zeroizing<Vec<u8>> {
    let bytes = run.chunks_exact(2).filter_map(|pair| u8::try_from(hex(pair)?).ok());
    Zeroizing::new(bytes.collect())
}

/// RFC 4648 §4 and §5, from wherever a group begins.
fn of_base64(run: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(run.len()));
    for group in run.chunks(4) {
        let bits = group.iter().filter_map(|b| sextet(*b)).fold(0, |bits, six| (bits << 6) | six);
        let missing = 4_usize.saturating_sub(group.len());
        let [_, bytes @ ..] = (bits << (6 * missing)).to_be_bytes();
        out.extend(bytes.iter().take(3_usize.saturating_sub(missing)));
    }
    out
}

fn sextet(byte: u8) -> Option<u32> {
    let (first, base) = match byte {
        b'A'..=b'Z' => (b'A', 0),
        b'a'..=b'z' => (b'a', 26),
        b'0'..=b'9' => (b'0', 52),
        b'+' | b'-' => (byte, 62),
        b'/' | b'_' => (byte, 63),
        _ => return None,
    };
    Some(u32::from(byte.saturating_sub(first)).saturating_add(base))
}

/// Stands in no UTF-8, so in no secret.
pub(super) const BETWEEN: u8 = 0xFF;

/// So much of a longer secret must not be shown.
const PIECE: usize = 16;

/// A shorter text is in any other by chance.
const SHORTEST: usize = 4;

const MOST_LAYERS: usize = 3;
const LONGEST_DECODED: usize = 4096;
const LONGEST_ENTITY: usize = 10;

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    fn repeats(text: &str, secret: &str) -> bool {
        Undisguised::of(text.as_bytes()).repeats(secret)
    }

    #[test]
    fn f57_a_secret_is_found_in_any_usual_encoding() {
        for (secret, text) in [
            ("Zx+9/tq8Lk3fA==", "Zx%2b9%2ftq8Lk3fA%3d%3d"),
            ("Zx+9~tq8Lk3fA==", "Zx%2B9~tq8Lk3fA%3D%3D"),
            ("Zx+9/tq8Lk3fA==", "Zx%252B9%252Ftq8Lk3fA=="),
            ("Zx+9/tq8Lk3fA==", "Zx+9\\/tq8Lk3fA=="),
            ("Zx+9/tq8Lk3fA==", "Zx\\u002B9/tq8Lk3fA=="),
            ("Zx+9/tq8Lk3fA==", "Zx&#x2B;9&#47;tq8Lk3fA=="),
            ("Zx+9/tq8Lk3fA==", "Zx 9/tq8Lk3fA=="),
            ("pa&ss<wd\"1", "pa&amp;ss&lt;wd&quot;1"),
            ("pa&ss<wd\"1", "pa&amp;amp;ss&lt;wd\\\"1"),
            ("é%41bcdef", "%C3%A9Abcdef"),
            ("a-long-secret-of-many-letters", "\u{2026}long-secret-of-many\u{2026}"),
        ] {
            assert!(repeats(&format!("bad <{text}> given"), secret), "{text}");
        }
        for (secret, text) in [
            ("Zx+9/tq8Lk3fA==", "Zx+9/tq8Lk3fA="),
            ("a-long-secret-of-many-letters", "long-secret-of"),
            ("abc", "abc"),
            ("secret%", "100% of it"),
        ] {
            assert!(!repeats(text, secret), "{text}");
        }
    }

    proptest! {
        #[test]
        fn f57_a_secret_is_found_in_base64_and_hex(
            before in "[a-zé:]{0,8}", secret in "[a-z0-9+/=~é]{4,40}", after in "[a-z]{0,5}",
        ) {
            let text = format!("{before}{secret}{after}");
            let hex = text.bytes().fold(String::new(), |hex, b| format!("{hex}{b:02X}"));
            for encoded in [BASE64_STANDARD.encode(&text), BASE64_URL_SAFE_NO_PAD.encode(&text), hex] {
                prop_assert!(repeats(&format!("Basic {encoded}"), &secret), "{encoded}");
            }
        }

        #[test]
        fn f57_no_text_makes_the_decoder_panic(text: Vec<u8>, secret: String) {
            let _ = Undisguised::of(&text).repeats(&secret);
        }
    }
}
