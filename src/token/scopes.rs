use std::{collections::BTreeSet, fmt};

use crate::error::ConfigError;

/// A set of scope tokens ([RFC 6749 §3.3]): case-sensitive, without order or duplicates.
///
/// [RFC 6749 §3.3]: https://www.rfc-editor.org/rfc/rfc6749#section-3.3
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Scopes(BTreeSet<Box<str>>);

impl Scopes {
    /// Adds one scope token.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Scope`] when it is empty or has characters outside
    /// `%x21 / %x23-5B / %x5D-7E`.
    pub fn insert(&mut self, scope: &str) -> Result<(), ConfigError> {
        if !is_scope_token(scope) {
            return Err(ConfigError::Scope(scope.to_owned()));
        }
        self.0.insert(scope.into());
        Ok(())
    }

    /// Adds all scope tokens of another set.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.iter().cloned());
    }

    /// Whether a scope token is in the set.
    pub fn contains(&self, scope: &str) -> bool {
        self.0.contains(scope)
    }

    /// Whether every token of this set is in the other one.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// Whether there are no scope tokens.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many scope tokens there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The scope tokens.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|scope| &**scope)
    }
}

impl fmt::Display for Scopes {
    /// As it stands in a request: the tokens, one space between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, scope) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope)?;
        }
        Ok(())
    }
}

/// RFC 6749 §3.3: `scope-token = 1*( %x21 / %x23-5B / %x5D-7E )`
fn is_scope_token(scope: &str) -> bool {
    let allowed = |b| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
    !scope.is_empty() && scope.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trq_09_scopes_are_a_set_and_bad_tokens_are_refused() {
        let set = |tokens: &[&str]| {
            let mut scopes = Scopes::default();
            tokens.iter().try_for_each(|token| scopes.insert(token)).map(|()| scopes)
        };
        assert_eq!(set(&["a", "b", "a"]), set(&["b", "a"]));
        assert_eq!(set(&["b", "a", "A"]).unwrap().to_string(), "A a b");
        for bad in ["a b", "a\"b", "a\\b", "é", "", "a\n"] {
            assert_eq!(set(&[bad]), Err(ConfigError::Scope(bad.to_owned())));
        }
    }
}
