//! The little of DER that it takes to hand the members of a JWK to a library that reads PKCS
//! structures.

use zeroize::Zeroizing;

/// Bytes that are wiped on drop.
pub(super) type Bytes = Zeroizing<Vec<u8>>;

/// RFC 8017 App. A.1.2 `RSAPrivateKey`, its numbers in that order.
pub(super) fn rsa_private_key(numbers: &[Bytes]) -> Bytes {
    let mut content = integer(&[0]);
    for number in numbers {
        content.extend_from_slice(&integer(number));
    }
    tagged(SEQUENCE, &content)
}

/// RFC 5208 `PrivateKeyInfo` around RFC 5915 `ECPrivateKey`.
pub(super) fn ec_private_key(curve: &[u8], private: &[u8], x: &[u8], y: &[u8]) -> Bytes {
    // RFC 5480 §2.2: an uncompressed point, after the count of unused bits.
    let point = Zeroizing::new([&[0, 4], x, y].concat());
    let key = tagged(
        SEQUENCE,
        &concat(&[
            &integer(&[1]),
            &tagged(OCTET_STRING, private),
            &tagged(CONTEXT_1, &tagged(BIT_STRING, &point)),
        ]),
    );
    let algorithm = tagged(SEQUENCE, &concat(&[&tagged(OID, EC_PUBLIC_KEY), &tagged(OID, curve)]));
    tagged(SEQUENCE, &concat(&[&integer(&[0]), &algorithm, &tagged(OCTET_STRING, &key)]))
}

/// RFC 8410 §7 `PrivateKeyInfo` of an Ed25519 key.
pub(super) fn ed25519_private_key(private: &[u8]) -> Bytes {
    let algorithm = tagged(SEQUENCE, &tagged(OID, ED25519));
    let key = tagged(OCTET_STRING, &tagged(OCTET_STRING, private));
    tagged(SEQUENCE, &concat(&[&integer(&[0]), &algorithm, &key]))
}

/// The private key within a `PrivateKeyInfo` (RFC 5208 §5): version, algorithm, and then the key.
#[cfg(feature = "private-key-jwt")]
pub(super) fn private_key(info: &[u8]) -> Option<&[u8]> {
    let (fields, _) = read(SEQUENCE, info)?;
    let (_, fields) = read(INTEGER, fields)?;
    let (_, fields) = read(SEQUENCE, fields)?;
    read(OCTET_STRING, fields).map(|(key, _)| key)
}

/// The content of an element with this tag, and what follows it.
#[cfg(feature = "private-key-jwt")]
fn read(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(&[tag])?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(*first) {
        short @ ..0x80 => (short, rest),
        // X.690 §8.1.3.5: so many bytes with the length. A key needs no more than four.
        long => {
            let (digits, rest) = rest.split_at_checked(long & 0x7f).filter(|_| long <= 0x84)?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
    };
    rest.split_at_checked(length)
}

/// X.690 §8.3: the shortest form, with a zero before a byte that would make it negative.
fn integer(number: &[u8]) -> Bytes {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let digits = number.get(zeros..).unwrap_or_default();
    let pad = digits.first().is_none_or(|first| first & 0x80 != 0);
    let mut content = Zeroizing::new(Vec::with_capacity(digits.len() + 1));
    content.extend(pad.then_some(0));
    content.extend_from_slice(digits);
    tagged(INTEGER, &content)
}

fn tagged(tag: u8, content: &[u8]) -> Bytes {
    let length = content.len().to_be_bytes();
    let length = length.get(length.iter().take_while(|b| **b == 0).count()..).unwrap_or_default();
    let mut out = Zeroizing::new(Vec::with_capacity(content.len() + 2 + length.len()));
    out.push(tag);
    match length {
        [] => out.push(0),
        [short] if *short < 0x80 => out.push(*short),
        long => {
            // X.690 §8.1.3.5: the count of length bytes. A usize has eight at most.
            out.push(0x80 | u8::try_from(long.len()).unwrap_or_default());
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(content);
    out
}

fn concat(parts: &[&[u8]]) -> Bytes {
    Zeroizing::new(parts.concat())
}

pub(super) const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
pub(super) const P384: &[u8] = &[0x2b, 0x81, 4, 0, 0x22];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const CONTEXT_1: u8 = 0xa1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_short_and_not_negative() {
        for (number, expected) in [
            (&[0][..], &[2, 1, 0][..]),
            (&[], &[2, 1, 0]),
            (&[0, 0, 5], &[2, 1, 5]),
            (&[0x80], &[2, 2, 0, 0x80]),
        ] {
            assert_eq!(*integer(number), expected, "{number:?}");
        }
    }

    #[cfg(feature = "private-key-jwt")]
    #[test]
    fn the_key_is_found_within_its_envelope() {
        for size in [0, 1, 0x7f, 0x80, 0x123, 0x1_0000] {
            let key = vec![7; size];
            let algorithm = tagged(SEQUENCE, &tagged(OID, ED25519));
            let parts = concat(&[&integer(&[0]), &algorithm, &tagged(OCTET_STRING, &key)]);
            let info = tagged(SEQUENCE, &parts);
            assert_eq!(private_key(&info), Some(key.as_slice()));
            assert_eq!(private_key(&info[..info.len() - 1]), None);
        }
        for bad in [&[][..], &[0x30], &[0x30, 0x80], &[0x30, 0x85, 0, 0, 0, 0, 0], &[0x30, 0xff]] {
            assert_eq!(private_key(bad), None);
        }
    }

    #[cfg(feature = "private-key-jwt")]
    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = private_key(&bytes);
        }
    }

    #[test]
    fn long_contents_have_long_lengths() {
        assert_eq!(tagged(4, &[0; 0x7f])[..2], [4, 0x7f]);
        assert_eq!(tagged(4, &[0; 0x80])[..3], [4, 0x81, 0x80]);
        assert_eq!(tagged(4, &[0; 0x0123])[..4], [4, 0x82, 1, 0x23]);
    }
}
