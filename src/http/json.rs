use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

/// Where a body stops being what was to be read. The parser's own message may repeat a string of the
/// body, which may be a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BrokenJson {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// Reads a body to its end.
pub(crate) fn from_json<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, BrokenJson> {
    // serde_json refuses more than 128 levels, before the stack is at risk.
    let mut parser = serde_json::Deserializer::from_slice(body);
    let value = T::deserialize(&mut parser).and_then(|value| parser.end().map(|()| value));
    value.map_err(|error| BrokenJson { line: error.line(), column: error.column() })
}

/// Hands over each member of an object: one that stands there twice is seen twice.
pub(crate) fn each_member<'de, D: Deserializer<'de>>(
    deserializer: D,
    member: impl FnMut(String, Value),
) -> Result<(), D::Error> {
    deserializer.deserialize_map(Each(member))
}

struct Each<F>(F);

impl<'de, F: FnMut(String, Value)> Visitor<'de> for Each<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key()? {
            (self.0)(name, map.next_value()?);
        }
        Ok(())
    }
}
