use std::{fmt, hint::black_box};

use zeroize::Zeroizing;

/// A string that is redacted in `Debug` and wiped from memory on drop.
///
/// Two secrets of one length are compared in a time that does not depend on where they differ.
#[derive(Clone, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The value itself. Keep it out of logs, errors and URLs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(Zeroizing::new(value))
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        value.to_owned().into()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.expose().as_bytes(), other.expose().as_bytes());
        let difference = |seen: u8, (a, b): (&u8, &u8)| black_box(seen | (a ^ b));
        ours.len() == theirs.len() && ours.iter().zip(theirs).fold(0, difference) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn log_02_secrets_are_equal_exactly_if_their_texts_are(a in "[ab]{0,3}", b in "[ab]{0,3}") {
            prop_assert_eq!(Secret::from(&*a) == Secret::from(&*b), a == b);
        }
    }
}
