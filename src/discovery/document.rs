use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::client::BODY_LIMIT;
use crate::{
    error::{Error, ErrorKind, printable},
    http::{BrokenJson, MOST_VALUES, Member, from_json},
};

/// A JSON object from the network, each member of which is checked only when it is needed.
#[derive(Default)]
pub(super) struct Document {
    members: Map<String, Value>,
    /// Members that stood there twice, or have a name twice within. Readers disagree on which of them counts, so none does.
    repeated: BTreeSet<String>,
}

impl Document {
    /// Reads a body. Whatever its content type says: gateways label JSON as they like. Says what is
    /// wrong if it is no document.
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err("no JSON object".to_owned());
        }
        let mut document = Self::default();
        let outcome = from_json(body, BODY_LIMIT, |Member { name, value, repeats_within }| {
            if repeats_within || document.members.contains_key(&name) {
                document.repeated.insert(name);
            } else {
                document.members.insert(name, value);
            }
        });
        outcome.map(|()| document).map_err(|BrokenJson { line, column, is_too_large }| {
            if is_too_large {
                format!("JSON with more than {MOST_VALUES} values, or very large ones")
            } else {
                format!("no JSON object: see line {line} column {column}")
            }
        })
    }

    /// A member as it is. `null` counts as absent, and so does one that stands there twice.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        let once = |value: &&Value| !value.is_null() && !self.repeated.contains(name);
        self.members.get(name).filter(once)
    }

    /// Whether there is such a member, of whatever kind and however often. `null` counts as absent.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some() || self.repeated.contains(name)
    }

    /// A string.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Error> {
        match self.once(name)? {
            Some(Value::String(text)) => Ok(Some(text)),
            None => Ok(None),
            Some(_) => Err(malformed(format!("the metadata's {} is not a string", shown(name)))),
        }
    }

    /// An array of strings.
    pub(super) fn list(&self, name: &str) -> Result<Option<Vec<&str>>, Error> {
        let bad =
            || malformed(format!("the metadata's {} is not an array of strings", shown(name)));
        match self.once(name)? {
            Some(Value::Array(values)) => {
                values.iter().map(Value::as_str).collect::<Option<_>>().map(Some).ok_or_else(bad)
            }
            None => Ok(None),
            Some(_) => Err(bad()),
        }
    }

    /// An object.
    pub(super) fn object(&self, name: &str) -> Result<Option<&Map<String, Value>>, Error> {
        match self.once(name)? {
            Some(Value::Object(members)) => Ok(Some(members)),
            None => Ok(None),
            Some(_) => Err(malformed(format!("the metadata's {} is not an object", shown(name)))),
        }
    }

    fn once(&self, name: &str) -> Result<Option<&Value>, Error> {
        if self.repeated.contains(name) {
            let name = shown(name);
            let message =
                format!("the metadata has two members {name}, or two of a name within it");
            return Err(malformed(message));
        }
        Ok(self.get(name))
    }
}

/// The name of a member, which may be the network's.
fn shown(name: &str) -> String {
    printable(name, 60)
}

pub(super) fn malformed(message: String) -> Error {
    Error::new(ErrorKind::MalformedResponse, message)
}
