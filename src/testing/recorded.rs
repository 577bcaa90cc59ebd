use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method, header::AUTHORIZATION};
use tokio::time::Instant;

/// A request as a test server received it.
///
/// Everything is kept as it came, credentials too: this is for tests, with values made for tests.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Recorded {
    /// The method.
    pub method: Method,
    /// The request target: the path, and the query if there is one.
    pub target: String,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, without any transfer coding. Empty if the request was answered from its head.
    pub body: Bytes,
    /// The exact bytes of head and body, if the request came over a socket.
    pub raw: Option<Bytes>,
    /// When the request had arrived.
    pub at: Instant,
}

impl Recorded {
    /// The path of the target, without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The first header field of a name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The parameters of a form body, decoded, in their order.
    pub fn form(&self) -> Vec<(String, String)> {
        form_urlencoded::parse(&self.body).into_owned().collect()
    }

    /// The first parameter of a name in a form body.
    pub fn param(&self, name: &str) -> Option<String> {
        self.form().into_iter().find_map(|(key, value)| (key == name).then_some(value))
    }

    /// The token of an `Authorization: Bearer` header ([RFC 6750 §2.1]).
    ///
    /// [RFC 6750 §2.1]: https://www.rfc-editor.org/rfc/rfc6750#section-2.1
    pub fn bearer(&self) -> Option<&str> {
        self.credentials("bearer")
    }

    /// The client's id and secret of an `Authorization: Basic` header, decoded as
    /// [RFC 6749 §2.3.1] says.
    ///
    /// [RFC 6749 §2.3.1]: https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1
    pub fn basic(&self) -> Option<(String, String)> {
        let bytes = BASE64_STANDARD.decode(self.credentials("basic")?).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (id, secret) = text.split_once(':')?;
        Some((form_decode(id), form_decode(secret)))
    }

    fn credentials(&self, scheme: &str) -> Option<&str> {
        let (given, credentials) =
            self.headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        given.eq_ignore_ascii_case(scheme).then(|| credentials.trim_start_matches(' '))
    }
}

/// Decodes one form-encoded value.
fn form_decode(value: &str) -> String {
    // A form parser takes these two as separators; in one value they stand for themselves.
    let value = value.replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(value.as_bytes()).map(|(text, _)| text.into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_authorization(value: &str) -> Recorded {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        Recorded {
            method: Method::POST,
            target: "/token?tenant=a".into(),
            headers,
            body: Bytes::from_static(b"scope=a+b&empty=&plus=1%2B1"),
            raw: None,
            at: Instant::now(),
        }
    }

    #[test]
    fn basic_credentials_are_form_decoded_within_base64() {
        let encoded = BASE64_STANDARD.encode("or%3Aders+%E2%82%AC:p%25%26%2B%3D w%3a:=&");
        let recorded = with_authorization(&format!("basic {encoded}"));
        assert_eq!(recorded.basic(), Some(("or:ders €".into(), "p%&+= w::=&".into())));
        assert_eq!(recorded.bearer(), None);
        assert_eq!(with_authorization("Basic !").basic(), None);
    }

    #[test]
    fn the_parts_of_a_request_are_read() {
        let recorded = with_authorization("BEARER  abc");
        assert_eq!(recorded.bearer(), Some("abc"));
        assert_eq!(recorded.path(), "/token");
        assert_eq!(recorded.param("scope").as_deref(), Some("a b"));
        assert_eq!(recorded.param("plus").as_deref(), Some("1+1"));
        assert_eq!(recorded.form().len(), 3);
    }
}
