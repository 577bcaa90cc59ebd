use std::{
    fmt,
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use zeroize::Zeroizing;

/// When a JWT expires, by its `exp` claim ([RFC 7519 §4.1.4]); `None` if it is no JWT or does not
/// say. The signature is not looked at: this is a hint for scheduling, not a reason to trust.
///
/// [RFC 7519 §4.1.4]: https://www.rfc-editor.org/rfc/rfc7519#section-4.1.4
pub(crate) fn jwt_expiry(token: &str) -> Option<SystemTime> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let claims = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?);
    if !claims.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    let Expiry(expiry) = serde_json::from_slice(&claims).ok()?;
    // NumericDate: seconds, with a fraction or without.
    let seconds = expiry.filter(|seconds| *seconds >= 0.0)?;
    let since_epoch = Duration::try_from_secs_f64(seconds).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(since_epoch)
}

/// The `exp` claim, if it is a number. The others are not kept: a token may be made of a million of
/// them.
struct Expiry(Option<f64>);

impl<'de> Deserialize<'de> for Expiry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Claims;
        impl<'de> Visitor<'de> for Claims {
            type Value = Expiry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Expiry, A::Error> {
                let mut expiry = None;
                while let Some(name) = map.next_key::<String>()? {
                    if name == "exp" {
                        expiry = map.next_value::<Number>()?.0;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Expiry(expiry))
            }
        }
        deserializer.deserialize_map(Claims)
    }
}

/// A value that may be a number. An error about any other would have all of it in its text.
struct Number(Option<f64>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
                Ok(Number(Some(number)))
            }

            #[expect(clippy::cast_precision_loss, reason = "it is exact for 285 million years")]
            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number(Some(number as f64)))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Number, E> {
                Ok(Number(None))
            }

            fn visit_unit<E>(self) -> Result<Number, E> {
                Ok(Number(None))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Number, E> {
                Ok(Number(None))
            }

            fn visit_str<E>(self, _: &str) -> Result<Number, E> {
                Ok(Number(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Number, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Number(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Number, A::Error> {
                while let Some(name) = map.next_key::<String>()? {
                    // As serde_json has numbers with its feature `arbitrary_precision`.
                    if name == "$serde_json::private::Number" {
                        return Ok(Number(map.next_value::<String>()?.parse().ok()));
                    }
                    map.next_value::<IgnoredAny>()?;
                }
                Ok(Number(None))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn the_expiry_is_read() {
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(jwt_expiry(&jwt(r#"{"exp":1300819380}"#)), at(1_300_819_380));
        assert_eq!(jwt_expiry(&jwt(r#"{"exp":12.0,"iss":"a"}"#)), at(12));
    }

    #[test]
    fn whatever_is_no_jwt_or_has_no_expiry_has_none() {
        for token in
            ["", "a.b.c", "opaque", "a.b.c.d", &jwt("{}"), &jwt(r#"{"exp":"12"}"#), &jwt("[")]
        {
            assert_eq!(jwt_expiry(token), None, "{token}");
        }
        for odd in [r#"{"exp":-1}"#, r#"{"exp":1e300}"#, r#"{"exp":null}"#] {
            assert_eq!(jwt_expiry(&jwt(odd)), None, "{odd}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,40}", claims in ".{0,40}") {
            let _ = (jwt_expiry(&text), jwt_expiry(&jwt(&claims)));
        }
    }
}
