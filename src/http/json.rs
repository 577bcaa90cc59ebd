use std::{cell::Cell, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// Where a body stops being what was to be read. The parser's own message may repeat a string of the
/// body, which may be a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BrokenJson {
    pub(crate) line: usize,
    pub(crate) column: usize,
    /// Whether it is an object with more than [`MOST_VALUES`] values.
    pub(crate) is_too_large: bool,
}

/// One member of an object.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) value: Value,
    /// Whether an object within the value has two members of one name.
    pub(crate) repeats_within: bool,
}

/// Reads an object from a body, which ends with it.
pub(crate) fn from_json<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, BrokenJson> {
    // serde_json refuses more than 128 levels, before the stack is at risk.
    let mut parser = serde_json::Deserializer::from_slice(body);
    let value = T::deserialize(&mut parser).and_then(|value| parser.end().map(|()| value));
    value.map_err(|error| BrokenJson {
        line: error.line(),
        column: error.column(),
        // An object is what was to be read, so nothing else about its data can be wrong.
        is_too_large: error.is_data() && body.first() == Some(&b'{'),
    })
}

/// Hands over each member of an object: one that stands there twice is seen twice. An object with
/// more than [`MOST_VALUES`] values is refused: in memory each of them takes fifty times the two
/// bytes that it takes in the text.
pub(crate) fn each_member<'de, D: Deserializer<'de>>(
    deserializer: D,
    member: impl FnMut(Member),
) -> Result<(), D::Error> {
    deserializer.deserialize_map(Each(member))
}

/// How many values a document may have, at all levels together.
pub(crate) const MOST_VALUES: usize = 10_000;

struct Each<F>(F);

impl<'de, F: FnMut(Member)> Visitor<'de> for Each<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let reader = ValueReader::default();
        while let Some(name) = map.next_key()? {
            reader.repeats.set(false);
            let value = map.next_value_seed(&reader)?;
            (self.0)(Member { name, value, repeats_within: reader.repeats.get() });
        }
        Ok(())
    }
}

/// Reads the values of one document, and counts them.
#[derive(Default)]
struct ValueReader {
    values: Cell<usize>,
    repeats: Cell<bool>,
}

impl ValueReader {
    fn spend<E: serde::de::Error>(&self) -> Result<(), E> {
        let values = self.values.get().saturating_add(1);
        self.values.set(values);
        if values > MOST_VALUES { Err(E::custom("too many values")) } else { Ok(()) }
    }
}

/// Reads one value, of any kind.
impl<'de> DeserializeSeed<'de> for &ValueReader {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.spend()?;
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

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
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
            let value = map.next_value_seed(self)?;
            if members.insert(name, value).is_some() {
                self.repeats.set(true);
            }
        }
        Ok(Value::Object(members))
    }
}

/// What `serde_json` makes of a number where some crate has turned on its feature `arbitrary_precision`:
/// an object with this member.
const NUMBER: &str = "$serde_json::private::Number";

#[cfg(test)]
mod tests {
    use super::*;

    struct Members(Vec<(String, Value, bool)>);

    impl<'de> Deserialize<'de> for Members {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let mut members = Vec::new();
            each_member(deserializer, |member| {
                members.push((member.name, member.value, member.repeats_within));
            })?;
            Ok(Self(members))
        }
    }

    #[test]
    fn values_are_read_as_serde_json_reads_them() {
        let text = r#"{"a":null,"b":[true,-1,18446744073709551615,1.5,"\u00e9",{"c":{}}],"":"x"}"#;
        let Members(read) = from_json(text.as_bytes()).unwrap();
        let read: Map<_, _> = read.into_iter().map(|(name, value, _)| (name, value)).collect();
        assert_eq!(Value::Object(read), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn a_number_is_one_with_the_feature_arbitrary_precision_too() {
        let text = r#"{"expires_in":{"$serde_json::private::Number":"3600"}}"#;
        let Members(read) = from_json(text.as_bytes()).unwrap();
        assert_eq!(read[0].1, serde_json::json!(3600));
    }

    #[test]
    fn f88_a_name_that_stands_twice_within_a_member_is_seen() {
        let text = r#"{"a":{"x":1,"x":1},"b":{"x":1,"y":{"x":1}},"c":[{"x":{"y":1,"y":2}}],"b":1}"#;
        let Members(read) = from_json(text.as_bytes()).unwrap();
        let repeats: Vec<_> = read.iter().map(|(name, _, repeats)| (&**name, *repeats)).collect();
        assert_eq!(repeats, [("a", true), ("b", false), ("c", true), ("b", false)]);
    }

    #[test]
    fn f86_a_document_of_very_many_values_is_refused() {
        let of = |values: usize| format!("{{\"a\":[{}0]}}", "0,".repeat(values - 2));
        assert!(from_json::<Members>(of(MOST_VALUES).as_bytes()).is_ok());
        assert!(from_json::<Members>(of(MOST_VALUES + 1).as_bytes()).is_err());
    }
}
