use std::fmt;

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer,
    },
};

use super::object::{Object, without_mark};
use crate::http::each_member;

/// Where in an answer the object stands that holds the token: a JSON pointer ([RFC 6901]).
///
/// [RFC 6901]: https://www.rfc-editor.org/rfc/rfc6901
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointer(Vec<String>);

impl Pointer {
    /// Reads a pointer to something within a document, such as `/authed_user`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.strip_prefix('/')?.split('/').map(unescaped).collect::<Option<_>>().map(Self)
    }

    /// The names that lead to this place.
    pub(super) fn names(&self) -> &[String] {
        &self.0
    }

    /// The object at this place; `None` if there is none, or if what leads there stands twice.
    /// `limit` is the size that the body might have.
    pub(crate) fn object(&self, body: &[u8], limit: usize) -> Option<Object> {
        let mut parser = serde_json::Deserializer::from_slice(without_mark(body));
        let found = Seek { names: &self.0, limit }.deserialize(&mut parser).ok()?;
        parser.end().ok().and(found)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|name| write!(f, "/{}", name.replace('~', "~0").replace('/', "~1")))
    }
}

/// RFC 6901 §3: `escaped = "~" ( "0" / "1" )`, for `~` and `/`.
fn unescaped(name: &str) -> Option<String> {
    let rest = name.replace("~0", "").replace("~1", "");
    // §4: "~1" first, so that "~01" becomes "~1" and not "/".
    (!rest.contains('~')).then(|| name.replace("~1", "/").replace("~0", "~"))
}

/// Looks for the object behind these names, and reads nothing else.
struct Seek<'a> {
    names: &'a [String],
    limit: usize,
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Option<Object>;

    /// Whatever kind it is: an error about the wrong kind would have all of a long text in it.
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = Option<Object>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((name, rest)) = self.names.split_first() else {
            let mut object = Object::default();
            let map = MapAccessDeserializer::new(map);
            return each_member(map, self.limit, |member| object.add(member))
                .map(|()| Some(object));
        };
        let mut found = Found::default();
        while let Some(key) = map.next_key::<String>()? {
            if key == *name {
                found.add(map.next_value_seed(Seek { names: rest, ..self })?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found.only())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self::Value, A::Error> {
        let Some((index, rest)) = self.names.split_first() else {
            while values.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(None);
        };
        let mut found = Found::default();
        for at in 0_usize.. {
            if at.to_string() == *index {
                let Some(object) = values.next_element_seed(Seek { names: rest, ..self })? else {
                    break;
                };
                found.add(object);
            } else if values.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found.only())
    }
}

#[derive(Default)]
struct Found {
    object: Option<Object>,
    times: usize,
}

impl Found {
    fn add(&mut self, object: Option<Object>) {
        self.object = object;
        self.times = self.times.saturating_add(1);
    }

    /// RFC 6749 §3.2: nothing that counts stands there twice.
    fn only(self) -> Option<Object> {
        self.object.filter(|_| self.times == 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1024 * 1024;

    fn token(pointer: &str, body: &str) -> Option<String> {
        let object = Pointer::parse(pointer).unwrap().object(body.as_bytes(), LIMIT)?;
        Some(object.members.get("access_token")?.as_str()?.to_owned())
    }

    #[test]
    fn trs_12_the_object_at_the_pointer_is_read_and_no_other() {
        let body = r#"{"access_token":"top","a":{"access_token":"a","b":{"access_token":"b"}},
            "list":[{"access_token":"0"},{"access_token":"1"}],"x/y~1":{"access_token":"x"},
            "null":null,"text":"t"}"#;
        for (pointer, expected) in [
            ("/a", Some("a")),
            ("/a/b", Some("b")),
            ("/list/1", Some("1")),
            ("/x~1y~01", Some("x")),
            ("/b", None),
            ("/a/c", None),
            ("/list/2", None),
            ("/list/01", None),
            ("/list/-", None),
            ("/null", None),
            ("/text", None),
            ("/text/a", None),
            ("/", None),
        ] {
            assert_eq!(token(pointer, body).as_deref(), expected, "{pointer}");
        }
        let list = r#"[{"access_token":"0"},[{"access_token":"1"}]]"#;
        assert_eq!(token("/0", list).as_deref(), Some("0"));
        assert_eq!(token("/1/0", list).as_deref(), Some("1"));
    }

    #[test]
    fn trs_12_what_leads_there_twice_leads_nowhere() {
        let object = r#"{"access_token":"t"}"#;
        assert_eq!(token("/a", &format!(r#"{{"a":{object},"a":{object}}}"#)), None);
        assert_eq!(token("/a", &format!(r#"{{"a":{object},"a":null}}"#)), None);
        let twice = Pointer::parse("/a").unwrap();
        let twice =
            twice.object(br#"{"a":{"access_token":"t","access_token":"u"}}"#, LIMIT).unwrap();
        assert_eq!(twice.repeated, Some("access_token"));
    }

    #[test]
    fn a_pointer_is_written_as_it_was_read() {
        for text in ["/authed_user", "/a/b/0", "/x~1y~01", "/"] {
            assert_eq!(Pointer::parse(text).unwrap().to_string(), text);
        }
        for bad in ["", "authed_user", "/a~", "/a~2", "#/a"] {
            assert_eq!(Pointer::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn f10_no_bytes_make_the_reader_panic(pointer in "(/[a~01]{0,3}){1,3}", body: Vec<u8>) {
            if let Some(pointer) = Pointer::parse(&pointer) {
                let _ = pointer.object(&body, LIMIT);
            }
        }

        #[test]
        fn it_agrees_with_another_reader(
            pointer in "(/[ab0]){1,3}",
            body in r#"\{("a"|"b"|"0"):(\{"(a|b|0)":(\[\{"a":\{\}\},1\]|\{"b":\{\}\}|null)\}|\[\{\}\]|1)\}"#,
        ) {
            let value: serde_json::Value = serde_json::from_str(&body).unwrap();
            let expected = value.pointer(&pointer).is_some_and(serde_json::Value::is_object);
            let found = Pointer::parse(&pointer).unwrap().object(body.as_bytes(), LIMIT);
            prop_assert_eq!(found.is_some(), expected);
        }
    }
}
