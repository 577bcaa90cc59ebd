use serde_json::Value;

use crate::token::Scopes;

/// The scopes of an answer; `None` if it does not say.
///
/// RFC 6749 §3.3 has tokens with one space between them. Twitch sends an array, GitHub commas.
pub(super) fn granted(scope: Option<&Value>, requested: &Scopes) -> Option<Scopes> {
    let mut scopes = Scopes::default();
    match scope {
        Some(Value::String(text)) => add(&mut scopes, text, requested),
        Some(Value::Array(items)) => {
            for text in items.iter().filter_map(Value::as_str) {
                add(&mut scopes, text, requested);
            }
        }
        _ => {}
    }
    Some(scopes).filter(|scopes| !scopes.is_empty())
}

/// Whether a `scope` member is as RFC 6749 §3.3 has it.
pub(super) fn is_strict(scope: Option<&Value>, requested: &Scopes) -> bool {
    let token = |token: &str| {
        let separated = token.contains(',') && !requested.contains(token);
        Scopes::default().insert(token).is_ok() && !separated
    };
    match scope {
        None => true,
        Some(Value::String(text)) => text.split(' ').all(token),
        Some(_) => false,
    }
}

fn add(scopes: &mut Scopes, text: &str, requested: &Scopes) {
    for token in text.split_ascii_whitespace() {
        // A comma may stand in a scope token: one that was asked for is not split.
        let whole = requested.contains(token);
        for part in token.split(|c| c == ',' && !whole) {
            if scopes.len() >= MOST_SCOPES {
                return;
            }
            // What is no scope token cannot have been asked for.
            let _ = scopes.insert(part);
        }
    }
}

/// How many scopes of an answer are read: each takes twenty times its own size in memory.
pub(crate) const MOST_SCOPES: usize = 2_000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(tokens: &[&str]) -> Scopes {
        let mut scopes = Scopes::default();
        tokens.iter().try_for_each(|token| scopes.insert(token)).unwrap();
        scopes
    }

    #[test]
    fn trs_11_every_form_of_a_scope_gives_the_same_set() {
        for value in [json!("a b"), json!("b  a "), json!("a,b"), json!("a, b"), json!(["a", "b"])]
        {
            assert_eq!(
                granted(Some(&value), &Scopes::default()),
                Some(set(&["a", "b"])),
                "{value}"
            );
        }
        for nothing in [json!(""), json!(null), json!([]), json!(7), json!({"a": 1})] {
            assert_eq!(granted(Some(&nothing), &Scopes::default()), None, "{nothing}");
        }
        assert_eq!(granted(None, &Scopes::default()), None);
    }

    #[test]
    fn trs_11_strictly_it_is_a_string_of_tokens() {
        let none = Scopes::default();
        assert!(is_strict(None, &none) && is_strict(Some(&json!("a b")), &none));
        for value in [json!("a,b"), json!(["a"]), json!(""), json!(null), json!("a  b"), json!("é")]
        {
            assert!(!is_strict(Some(&value), &none), "{value}");
        }
    }

    #[test]
    fn a_scope_with_a_comma_that_was_asked_for_is_kept_whole() {
        let requested = set(&["a,b"]);
        assert_eq!(granted(Some(&json!("a,b c,d")), &requested), Some(set(&["a,b", "c", "d"])));
        assert!(is_strict(Some(&json!("a,b")), &requested));
    }
}
