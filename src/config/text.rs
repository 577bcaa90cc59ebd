//! How values are written: durations as text, lists as text or as lists, status codes as either.

use std::{fmt, time::Duration};

use serde::{
    Deserializer, Serializer,
    de::{Error, SeqAccess, Visitor},
};

/// A duration as text, such as `30s` or `1m 30s`.
pub(super) mod duration {
    use super::{Deserializer, Duration, DurationVisitor, Serializer};

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        deserializer.deserialize_any(DurationVisitor).map(Some)
    }

    #[expect(clippy::ref_option, reason = "serde wants it")]
    pub(in super::super) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.collect_str(&humantime::format_duration(*duration)),
            None => serializer.serialize_none(),
        }
    }
}

/// One text, or a list of texts.
pub(super) mod list {
    use super::{Deserializer, ListVisitor};

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<String>, D::Error> {
        deserializer.deserialize_any(ListVisitor { split: false })
    }
}

/// Scopes: a list, or one text with spaces between them, as the protocol has it.
pub(super) mod scopes {
    use super::{Deserializer, ListVisitor};

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<String>, D::Error> {
        deserializer.deserialize_any(ListVisitor { split: true })
    }
}

/// Status codes: a number, a list of numbers, or one text with spaces between them.
pub(super) mod statuses {
    use super::{Deserializer, StatusesVisitor};

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u16>, D::Error> {
        deserializer.deserialize_any(StatusesVisitor)
    }
}

struct StatusesVisitor;

impl<'de> Visitor<'de> for StatusesVisitor {
    type Value = Vec<u16>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status code or a list of status codes")
    }

    fn visit_u64<E: Error>(self, status: u64) -> Result<Vec<u16>, E> {
        let wrong = |_| E::invalid_value(serde::de::Unexpected::Unsigned(status), &self);
        Ok(vec![u16::try_from(status).map_err(wrong)?])
    }

    fn visit_i64<E: Error>(self, status: i64) -> Result<Vec<u16>, E> {
        let wrong = |_| E::invalid_value(serde::de::Unexpected::Signed(status), &self);
        Ok(vec![u16::try_from(status).map_err(wrong)?])
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u16>, E> {
        let wrong = |_| E::invalid_value(serde::de::Unexpected::Str(text), &self);
        let statuses = text.split(' ').filter(|status| !status.is_empty());
        statuses.map(|status| status.parse().map_err(wrong)).collect()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<u16>, A::Error> {
        let mut statuses = Vec::new();
        while let Some(status) = items.next_element()? {
            statuses.push(status);
        }
        Ok(statuses)
    }
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration with its unit, such as \"30s\", \"5m\" or \"1h 30m\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        humantime::parse_duration(text)
            .map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

struct ListVisitor {
    split: bool,
}

impl<'de> Visitor<'de> for ListVisitor {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text or a list of texts")
    }

    fn visit_str<E>(self, text: &str) -> Result<Vec<String>, E> {
        if !self.split {
            return Ok(vec![text.to_owned()]);
        }
        Ok(text.split(' ').filter(|item| !item.is_empty()).map(str::to_owned).collect())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<String>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(list)
    }
}
