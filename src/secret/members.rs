use serde_json::{Map, Value};
use zeroize::Zeroize;
#[cfg(feature = "store")]
use zeroize::Zeroizing;

#[cfg(feature = "store")]
use super::Secret;

/// The members of a JSON object that may hold tokens or keys. All strings in it are wiped on drop.
#[derive(Clone, Default)]
pub(crate) struct Members(Map<String, Value>);

impl Members {
    /// Adds a member; `false` if one of that name was there already (the first one stays).
    pub(crate) fn insert(&mut self, name: String, value: Value) -> bool {
        if self.0.contains_key(&name) {
            wipe(value);
            return false;
        }
        self.0.insert(name, value);
        true
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.iter()
    }

    /// Takes a member out if it is a string; anything else stays.
    pub(crate) fn take_text(&mut self, name: &str) -> Option<String> {
        if !self.0.get(name).is_some_and(Value::is_string) {
            return None;
        }
        match self.0.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Takes a member out. `null` counts as absent, as many servers mean it.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }
}

#[cfg(feature = "store")]
impl Members {
    /// The members, to stand in other ones.
    pub(crate) fn to_value(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// The members of a value that is an object.
    pub(crate) fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Object(members) => Some(Self(members)),
            other => {
                wipe(other);
                None
            }
        }
    }

    /// The members as JSON text.
    pub(crate) fn to_json(&self) -> Secret {
        // Measured first: a buffer that grows leaves copies behind.
        let mut length = Length(0);
        let _ = serde_json::to_writer(&mut length, &self.0);
        let mut text = Zeroizing::new(Vec::with_capacity(length.0));
        let _ = serde_json::to_writer(&mut *text, &self.0);
        let text = std::mem::take(&mut *text);
        String::from_utf8(text).unwrap_or_default().into()
    }
}

/// Counts what is written to it.
#[cfg(feature = "store")]
struct Length(usize);

#[cfg(feature = "store")]
impl std::io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.0.values_mut().map(Value::take).for_each(wipe);
    }
}

/// The nesting is bounded by the parser, so this does not recurse without end.
fn wipe(value: Value) {
    match value {
        Value::String(mut text) => text.zeroize(),
        Value::Array(values) => values.into_iter().for_each(wipe),
        Value::Object(members) => members.into_iter().for_each(|(_, value)| wipe(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
