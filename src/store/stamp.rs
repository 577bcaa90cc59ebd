use std::fmt;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::{secret::Secret, source::Identity};

/// Which record of a store: a digest of everything that tells one credential's tokens from
/// another's.
///
/// It covers the token endpoint, the client, the grant, the subject, scopes, resources, audiences,
/// authorization details, all other parameters, and the key that tokens are bound to. It holds no
/// secret, and its `Display`, 64 hexadecimal digits, may be a file name.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// What a record is for, kept in the record itself: one that a mistake brings to another client is
/// noticed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    token_endpoint: String,
    client_id: String,
    scopes: String,
    parameters: Vec<(String, String)>,
    subject: Option<String>,
    key_thumbprint: Option<String>,
}

impl Stamp {
    /// The stamp of an identity. `credentials` are the digests of its credentials.
    pub(super) fn new(identity: &Identity, credentials: &str) -> Self {
        let canonical = |(name, value): &(String, String)| match &**name {
            "authorization_details" => (name.clone(), canonical_json(value)),
            _ => (name.clone(), value.clone()),
        };
        let subject = match &identity.subject {
            Some(name) => Some(format!("named {name}")),
            None if credentials.is_empty() => None,
            None => Some(format!("sha256 {credentials}")),
        };
        Self {
            token_endpoint: identity.token_endpoint.clone(),
            client_id: identity.client_id.clone(),
            scopes: identity.scopes.to_string(),
            parameters: identity.parameters.iter().map(canonical).collect(),
            subject,
            key_thumbprint: identity.key_thumbprint.clone(),
        }
    }

    pub(super) fn key(&self) -> Key {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            // With their lengths, so that no two rows of texts are the same bytes.
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        add("tower-oauth record 1");
        add(&self.token_endpoint);
        add(&self.client_id);
        add(&self.scopes);
        add(self.subject.as_deref().unwrap_or_default());
        add(self.key_thumbprint.as_deref().unwrap_or_default());
        for (name, value) in &self.parameters {
            add(name);
            add(value);
        }
        Key(hash.finalize().into())
    }

    /// The first thing in which a stored stamp is another one.
    pub(super) fn difference(&self, stored: &Self) -> Option<&'static str> {
        let same = [
            ("issuer", self.token_endpoint == stored.token_endpoint),
            ("client id", self.client_id == stored.client_id),
            ("key thumbprint", self.key_thumbprint == stored.key_thumbprint),
            ("subject", self.subject == stored.subject),
            ("scopes", self.scopes == stored.scopes),
            ("parameters", self.parameters == stored.parameters),
        ];
        same.into_iter().find(|(_, same)| !same).map(|(what, _)| what)
    }

    pub(super) fn to_value(&self) -> Value {
        json!({
            "token_endpoint": self.token_endpoint,
            "client_id": self.client_id,
            "scopes": self.scopes,
            "parameters": self.parameters,
            "subject": self.subject,
            "key_thumbprint": self.key_thumbprint,
        })
    }

    pub(super) fn from_value(value: &Value) -> Option<Self> {
        let text = |name| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let pair = |pair: &Value| {
            let part = |i: usize| pair.get(i).and_then(Value::as_str).map(str::to_owned);
            Some((part(0)?, part(1)?))
        };
        Some(Self {
            token_endpoint: text("token_endpoint")?,
            client_id: text("client_id")?,
            scopes: text("scopes")?,
            parameters: value
                .get("parameters")?
                .as_array()?
                .iter()
                .map(pair)
                .collect::<Option<_>>()?,
            subject: text("subject"),
            key_thumbprint: text("key_thumbprint"),
        })
    }
}

/// The digest of a credential, which tells nothing of it.
pub(super) fn credential_digest(credential: &Secret) -> String {
    let mut hash = Sha256::new();
    hash.update("tower-oauth credential 1\0");
    hash.update(credential.expose());
    Key(hash.finalize().into()).to_string()
}

/// JSON text with the members of all objects in order.
fn canonical_json(text: &str) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Array(values) => Value::Array(values.iter().map(sorted).collect()),
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by_key(|(name, _)| *name);
                let members =
                    members.into_iter().map(|(name, value)| (name.clone(), sorted(value)));
                Value::Object(members.collect::<Map<_, _>>())
            }
            other => other.clone(),
        }
    }
    let value = serde_json::from_str::<Value>(text);
    value.map_or_else(|_| text.to_owned(), |value| sorted(&value).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Scopes;

    fn scopes(tokens: &[&str]) -> Scopes {
        let mut scopes = Scopes::default();
        for token in tokens {
            scopes.insert(token).unwrap();
        }
        scopes
    }

    fn base() -> Identity {
        Identity::new("https://as.example/token", "c")
            .scopes(scopes(&["a", "b"]))
            .parameter("grant_type", "refresh_token")
            .parameter("resource", "https://one.example")
            .parameter("resource", "https://two.example")
    }

    fn key(identity: &Identity, credentials: &str) -> Key {
        Stamp::new(identity, credentials).key()
    }

    #[test]
    fn rfr_12_every_dimension_has_a_record_of_its_own() {
        let details = r#"[{"type":"payment"}]"#;
        let others = [
            key(&base(), ""),
            key(&Identity::new("https://other.example/token", "c"), ""),
            key(&Identity { token_endpoint: "https://as.example/t".into(), ..base() }, ""),
            key(&Identity { client_id: "d".into(), ..base() }, ""),
            key(&base().scopes(scopes(&["a"])), ""),
            key(&base().scopes(scopes(&["a", "b", "c"])), ""),
            key(&base().parameter("resource", "https://three.example"), ""),
            key(&base().parameter("audience", "https://three.example"), ""),
            key(&base().parameter("authorization_details", details), ""),
            key(&base().parameter("grant_type", "client_credentials"), ""),
            key(&base().key_thumbprint("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"), ""),
            key(&base().subject("alice"), ""),
            key(&base().subject("bob"), ""),
            key(&base(), &credential_digest(&"r1".into())),
            key(&base(), &credential_digest(&"r2".into())),
        ];
        for (i, one) in others.iter().enumerate() {
            for other in others.iter().skip(i + 1) {
                assert_ne!(one, other);
            }
        }
    }

    #[test]
    fn a_key_is_shown_as_what_files_are_called() {
        let key = key(&base(), "");
        assert_eq!(key.to_string().len(), 64);
        assert_eq!(format!("{key:?}"), format!("Key({key})"));
    }

    #[test]
    fn rfr_12_the_order_of_values_means_nothing() {
        let turned = Identity::new("https://as.example/token", "c")
            .parameter("resource", "https://two.example")
            .parameter("resource", "https://one.example")
            .parameter("grant_type", "refresh_token")
            .scopes(scopes(&["b", "a"]));
        assert_eq!(key(&turned, ""), key(&base(), ""));
        let details = |text| key(&base().parameter("authorization_details", text), "");
        assert_eq!(
            details(r#"[{"type":"p","a":{"c":1,"b":2}}]"#),
            details(r#"[{"a":{"b":2,"c":1},"type":"p"}]"#)
        );
        for other in [r#"[{"type":"q"}]"#, r#"[{"type":"p","a":{"c":1,"b":3}}]"#, "[]", "p"] {
            assert_ne!(details(other), details(r#"[{"type":"p","a":{"c":1,"b":2}}]"#));
        }
    }

    #[test]
    fn rfr_12_values_do_not_run_into_each_other() {
        let one = Identity::new("https://as.example/tokenc", "");
        let other = Identity::new("https://as.example/token", "c");
        assert_ne!(key(&one, ""), key(&other, ""));
    }

    #[test]
    fn rfr_13_a_stamp_says_in_what_it_differs() {
        let stamp = Stamp::new(&base(), "");
        assert_eq!(stamp.difference(&stamp), None);
        let other = Identity { token_endpoint: "https://evil.example/token".into(), ..base() };
        assert_eq!(stamp.difference(&Stamp::new(&other, "")), Some("issuer"));
        let bound = base().key_thumbprint("jkt");
        assert_eq!(stamp.difference(&Stamp::new(&bound, "")), Some("key thumbprint"));
        assert_eq!(stamp.difference(&Stamp::new(&base(), "x")), Some("subject"));
    }

    #[test]
    fn a_stamp_survives_json() {
        let stamp = Stamp::new(&base().key_thumbprint("jkt"), "x");
        assert!(Stamp::from_value(&stamp.to_value()).is_some_and(|read| read == stamp));
    }
}
