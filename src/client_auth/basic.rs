use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::HeaderValue;

use crate::{
    error::{Error, ErrorKind},
    http::{encoded_bound, push_form_encoded, wiped_string},
};

/// RFC 6749 §2.3.1: "The client identifier is encoded using the
/// "application/x-www-form-urlencoded" encoding algorithm per Appendix B, and the encoded value is
/// used as the username; the client password is encoded using the same algorithm and used as the
/// password."
pub(super) fn encoded(client_id: &str, secret: &str) -> Result<HeaderValue, Error> {
    let room = encoded_bound(client_id).saturating_add(encoded_bound(secret)).saturating_add(1);
    let mut pair = wiped_string(room);
    push_form_encoded(&mut pair, client_id);
    pair.push(':');
    push_form_encoded(&mut pair, secret);
    header(pair.as_bytes())
}

/// Id and secret as they are.
pub(super) fn raw(client_id: &str, secret: &str) -> Result<HeaderValue, Error> {
    let mut pair = wiped_string(client_id.len().saturating_add(secret.len()).saturating_add(1));
    pair.push_str(client_id);
    pair.push(':');
    pair.push_str(secret);
    header(pair.as_bytes())
}

fn header(pair: &[u8]) -> Result<HeaderValue, Error> {
    let room = base64::encoded_len(pair.len(), true).unwrap_or_default();
    let mut value = wiped_string(SCHEME.len().saturating_add(room));
    value.push_str(SCHEME);
    BASE64_STANDARD.encode_string(pair, &mut value);
    // The header takes the buffer over as it is, and the buffer wipes itself.
    let mut header =
        HeaderValue::from_maybe_shared(Bytes::from_owner(value)).map_err(|source| {
            Error::new(ErrorKind::Credential, "the client's credentials are not a header value")
                .with_source(source)
        })?;
    header.set_sensitive(true);
    Ok(header)
}

const SCHEME: &str = "Basic ";

#[cfg(test)]
mod tests {
    use super::*;

    fn text(header: Result<HeaderValue, Error>) -> String {
        header.unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn trq_05_id_and_secret_are_encoded_each_and_then_joined() {
        for (id, secret, expected) in [
            (
                "s6BhdRkqt3",
                "7Fjfp0ZBr1KtDRbnfVdmIw",
                "czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3",
            ),
            ("s6BhdRkqt3", "gX1fBat3bV", "czZCaGRSa3F0MzpnWDFmQmF0M2JW"),
            ("client:1", "p@ss w+rd%/=", "Y2xpZW50JTNBMTpwJTQwc3MrdyUyQnJkJTI1JTJGJTNE"),
            (
                "https://client.example/app?x=1",
                "£€ %&+",
                "aHR0cHMlM0ElMkYlMkZjbGllbnQuZXhhbXBsZSUyRmFwcCUzRnglM0QxOiVDMiVBMyVFMiU4MiVBQyslMjUlMjYlMkI=",
            ),
            ("üser", "пароль", "JUMzJUJDc2VyOiVEMCVCRiVEMCVCMCVEMSU4MCVEMCVCRSVEMCVCQiVEMSU4Qw=="),
            ("Aladdin", "open sesame", "QWxhZGRpbjpvcGVuK3Nlc2FtZQ=="),
        ] {
            assert_eq!(text(encoded(id, secret)), format!("Basic {expected}"), "{id}");
        }
    }

    #[test]
    fn trq_05_the_raw_mode_encodes_nothing() {
        for (id, secret, expected) in [
            ("Aladdin", "open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("test", "123£", "dGVzdDoxMjPCow=="),
            (
                "rs",
                "rs:Mku-6g_lCzKIdz4fsN7kYcya+Ti",
                "cnM6cnM6TWt1LTZnX2xDektJZHo0ZnNON2tZY3lhK1Rp",
            ),
        ] {
            assert_eq!(text(raw(id, secret)), format!("Basic {expected}"), "{id}");
        }
    }

    #[test]
    fn f57_the_header_is_marked_sensitive() {
        assert!(encoded("id", "secret").unwrap().is_sensitive());
        assert!(raw("id", "secret").unwrap().is_sensitive());
    }
}
