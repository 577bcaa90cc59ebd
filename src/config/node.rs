use std::{collections::BTreeSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, Error as _, MapAccess, SeqAccess, Visitor},
};

/// What a configuration holds, whatever its format.
///
/// It is read into this first, and only then into its types. So the errors of the second step are
/// ours, and repeat no value: a format's own often quote the line, and with it the secret.
pub(super) enum Node {
    Nothing,
    Bool(bool),
    Int(i64),
    Large(u64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a configuration value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(i64::try_from(value).map_or(Node::Large(value), Node::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Nothing)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Node, D::Error> {
        Node::deserialize(inner)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut table = Vec::new();
        let mut names = BTreeSet::new();
        while let Some((name, value)) = entries.next_entry::<String, Node>()? {
            // Formats differ on which of two counts.
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("the key {name:?} is there twice")));
            }
            table.push((name, value));
        }
        Ok(Node::Table(table))
    }
}

/// Why a configuration cannot be read.
#[derive(Debug)]
pub(super) struct Fault(String);

impl Fault {
    /// What a format says when the text is not well-formed, without the line that it may quote.
    pub(super) fn of_format(error: &impl fmt::Display) -> Self {
        let text = error.to_string();
        // TOML's and others' excerpts stand beside a bar.
        let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.contains('|'));
        let first = lines.next().unwrap_or("it cannot be read");
        match lines.next_back() {
            Some(last) => Self(format!("{first}: {last}")),
            None => Self(first.to_owned()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self(format!("{} is not {expected}", kind(&unexpected)))
    }

    fn invalid_value(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        // Not the name: what stands there may be meant for the next line.
        Self(format!("it is none of {}", expected.join(", ")))
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        // The path names it.
        match expected {
            [] => Self("there is no such key".to_owned()),
            _ => Self(format!("there is no such key; the keys are {}", expected.join(", "))),
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self(format!("the key {field} is missing"))
    }
}

/// A value's type, without the value.
fn kind(unexpected: &de::Unexpected<'_>) -> &'static str {
    use de::Unexpected as Is;
    match unexpected {
        Is::Bool(_) => "true or false",
        Is::Unsigned(_) | Is::Signed(_) | Is::Float(_) => "this number",
        Is::Char(_) | Is::Str(_) => "this text",
        Is::Unit | Is::Option => "nothing",
        Is::Seq => "a list",
        Is::Map => "a table",
        _ => "this value",
    }
}
