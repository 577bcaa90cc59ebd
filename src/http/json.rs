use std::{cell::Cell, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// Where a body stops being what was to be read. The parser's own message may repeat a string of the
/// body, which may be a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BrokenJson {
    pub(crate) line: usize,
    pub(crate) column: usize,
    /// Whether it is an object with more values than [`each_member`] takes.
    pub(crate) is_too_large: bool,
}

/// One member of an object.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) value: Value,
    /// Whether an object within the value has two members of one name.
    pub(crate) repeats_within: bool,
}

/// Reads an object from a body, which ends with it: hands over each member. One that stands there
/// twice is seen twice. `limit` is the largest size of such a body; see [`each_member`].
pub(crate) fn from_json(
    body: &[u8],
    limit: usize,
    member: impl FnMut(Member),
) -> Result<(), BrokenJson> {
    // serde_json refuses more than 128 levels, before the stack is at risk.
    let mut parser = serde_json::Deserializer::from_slice(body);
    let outcome = each_member(&mut parser, limit, member).and_then(|()| parser.end());
    outcome.map_err(|error| BrokenJson {
        line: error.line(),
        column: error.column(),
        // An object is what was to be read, so nothing else about its data can be wrong.
        is_too_large: error.is_data() && body.first() == Some(&b'{'),
    })
}

/// Hands over each member of an object.
///
/// One with more than [`MOST_VALUES`] values is refused, and one whose values take more memory than
/// twice `limit`: an object that takes five bytes in the text takes more than 600 in memory.
pub(crate) fn each_member<'de, D: Deserializer<'de>>(
    deserializer: D,
    limit: usize,
    member: impl FnMut(Member),
) -> Result<(), D::Error> {
    deserializer.deserialize_map(Each { reader: ValueReader::new(limit), member })
}

/// Whether so many members with texts of so many bytes are more than an answer may hold.
pub(crate) fn is_too_much(members: usize, bytes: usize, limit: usize) -> bool {
    let memory = members.saturating_mul(MEMBER).saturating_add(bytes);
    members > MOST_VALUES || memory > limit.saturating_mul(2)
}

/// How many values a document may have, at all levels together.
pub(crate) const MOST_VALUES: usize = 10_000;

struct Each<F> {
    reader: ValueReader,
    member: F,
}

impl<'de, F: FnMut(Member)> Visitor<'de> for Each<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let reader = &self.reader;
        while let Some(name) = map.next_key::<String>()? {
            reader.spend(MEMBER.saturating_add(name.len()))?;
            reader.repeats.set(false);
            let value = map.next_value_seed(reader)?;
            (self.member)(Member { name, value, repeats_within: reader.repeats.get() });
        }
        Ok(())
    }
}

/// Reads the values of one document, and counts what they take.
struct ValueReader {
    values: Cell<usize>,
    /// How many bytes of memory are left to them.
    memory: Cell<usize>,
    repeats: Cell<bool>,
}

impl ValueReader {
    fn new(limit: usize) -> Self {
        let memory = Cell::new(limit.saturating_mul(2));
        Self { values: Cell::default(), memory, repeats: Cell::default() }
    }

    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        let values = self.values.get().saturating_add(1);
        self.values.set(values);
        if values > MOST_VALUES { Err(E::custom("too many values")) } else { Ok(()) }
    }

    fn spend<E: serde::de::Error>(&self, bytes: usize) -> Result<(), E> {
        let left = self.memory.get().checked_sub(bytes);
        left.map(|left| self.memory.set(left)).ok_or_else(|| E::custom("too much memory"))
    }
}

/// Reads one value, of any kind.
impl<'de> DeserializeSeed<'de> for &ValueReader {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &ValueReader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.spend(value.len())?;
        Ok(value.into())
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.spend(value.len())?;
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            self.spend(if values.is_empty() { FIRST_ELEMENT } else { ELEMENT })?;
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == NUMBER && members.is_empty() {
                let number = map.next_value::<String>()?.parse();
                return number.map(Value::Number).map_err(A::Error::custom);
            }
            let node = if members.is_empty() { OBJECT } else { MEMBER };
            self.spend(node.saturating_add(name.len()))?;
            let value = map.next_value_seed(self)?;
            if members.insert(name, value).is_some() {
                self.repeats.set(true);
            }
        }
        Ok(Value::Object(members))
    }
}

/// What an object takes: a node of a tree, with room for eleven members.
const OBJECT: usize = 640;
/// What another member of it takes, since nodes are half full.
const MEMBER: usize = 200;
/// What an array takes: it has room for four elements to begin with.
const FIRST_ELEMENT: usize = 128;
/// What another element takes, while the array grows: the old one, and a new one of twice the size.
const ELEMENT: usize = 96;

/// What `serde_json` makes of a number where some crate has turned on its feature `arbitrary_precision`:
/// an object with this member.
const NUMBER: &str = "$serde_json::private::Number";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, limit: usize) -> Result<Vec<(String, Value, bool)>, BrokenJson> {
        let mut members = Vec::new();
        from_json(text.as_bytes(), limit, |member| {
            members.push((member.name, member.value, member.repeats_within));
        })?;
        Ok(members)
    }

    const LIMIT: usize = 1024 * 1024;

    #[test]
    fn values_are_read_as_serde_json_reads_them() {
        let text = r#"{"a":null,"b":[true,-1,18446744073709551615,1.5,"\u00e9",{"c":{}}],"":"x"}"#;
        let read = read(text, LIMIT).unwrap();
        let read: Map<_, _> = read.into_iter().map(|(name, value, _)| (name, value)).collect();
        assert_eq!(Value::Object(read), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn a_number_is_one_with_the_feature_arbitrary_precision_too() {
        let text = r#"{"expires_in":{"$serde_json::private::Number":"3600"}}"#;
        let read = read(text, LIMIT).unwrap();
        assert_eq!(read[0].1, serde_json::json!(3600));
    }

    #[test]
    fn f88_a_name_that_stands_twice_within_a_member_is_seen() {
        let text = r#"{"a":{"x":1,"x":1},"b":{"x":1,"y":{"x":1}},"c":[{"x":{"y":1,"y":2}}],"b":1}"#;
        let read = read(text, LIMIT).unwrap();
        let repeats: Vec<_> = read.iter().map(|(name, _, repeats)| (&**name, *repeats)).collect();
        assert_eq!(repeats, [("a", true), ("b", false), ("c", true), ("b", false)]);
    }

    #[test]
    fn f86_a_document_of_very_many_values_is_refused() {
        let of = |values: usize| format!("{{\"a\":[{}0]}}", "0,".repeat(values - 2));
        assert!(read(&of(MOST_VALUES), LIMIT).is_ok());
        assert!(read(&of(MOST_VALUES + 1), LIMIT).unwrap_err().is_too_large);
    }

    #[test]
    fn f86_a_document_whose_values_take_much_memory_is_refused() {
        let objects = |count: usize| format!("{{\"a\":[{}0]}}", "{\"b\":0},".repeat(count));
        for limit in [LIMIT / 16, LIMIT, LIMIT * 4] {
            let most = (limit * 2 / (OBJECT + ELEMENT)).min(MOST_VALUES / 2 - 10);
            assert!(read(&objects(most - 10), limit).is_ok(), "{limit}");
            let refused = read(&objects(most + 20), limit).unwrap_err();
            assert!(refused.is_too_large, "{limit}");
        }
    }
}
