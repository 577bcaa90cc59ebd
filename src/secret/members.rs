use serde_json::{Map, Value};
use zeroize::Zeroize;

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

    /// Takes a member out. `null` counts as absent, as many servers mean it.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
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
