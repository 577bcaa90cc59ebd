use std::{fmt, net::IpAddr};

use http::Uri;

use crate::error::ConfigError;

/// The URL of an endpoint of an authorization server: absolute, `https`, without fragment or user
/// information. Its path and query are kept byte for byte.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint(Uri);

impl Endpoint {
    /// Checks a URL. Plain `http` is taken for loopback, and elsewhere only with `allow_http`.
    pub(crate) fn parse(
        what: &'static str,
        value: &str,
        allow_http: bool,
    ) -> Result<Self, ConfigError> {
        let bad = |reason| ConfigError::Url { what, value: without_userinfo(value), reason };
        if value.contains('#') {
            // RFC 6749 §3.2: "The endpoint URI MUST NOT include a fragment component."
            return Err(bad("it must not have a fragment"));
        }
        let uri: Uri = value.parse().map_err(|_| bad("it is not a URL"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(bad("it must be absolute, such as https://idp.example/token"));
        };
        if authority.as_str().contains('@') {
            return Err(bad("it must not have user information"));
        }
        match scheme {
            "https" => Ok(Self(uri)),
            "http" if allow_http || is_loopback(authority.host()) => Ok(Self(uri)),
            "http" => Err(bad("it must be https, or http on a loopback address")),
            _ => Err(bad("it must be https")),
        }
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the query: some servers put keys there.
        write!(f, "{}://{}", self.0.scheme_str().unwrap_or_default(), self.0.host().unwrap_or("?"))
    }
}

/// Whether a host, as it stands in a URL, is this machine: a loopback address or `localhost`
/// ([RFC 6761 §6.3](https://www.rfc-editor.org/rfc/rfc6761#section-6.3)).
pub(crate) fn is_loopback(host: &str) -> bool {
    let literal = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    match literal.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// User information may hold a password: it is not shown.
fn without_userinfo(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else { return value.to_owned() };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest.get(..authority_end).and_then(|authority| authority.rfind('@')) {
        Some(at) => format!("{scheme}://..{}", rest.get(at..).unwrap_or_default()),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Result<Endpoint, ConfigError> {
        Endpoint::parse("token endpoint", value, false)
    }

    #[test]
    fn trq_04_the_query_is_kept_and_unusable_urls_are_refused() {
        let endpoint = parse("https://as.example//api/token?tenant=a%2Fb").unwrap();
        assert_eq!(endpoint.uri().to_string(), "https://as.example//api/token?tenant=a%2Fb");
        for bad in
            ["https://as.example/token#x", "https://u:p@as.example/token", "/token", "", "as"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tls_01_plain_http_is_for_loopback_only() {
        for good in ["http://127.0.0.1:9000/t", "http://127.8.8.8/t", "http://[::1]:9/t"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        assert!(parse("http://localhost:9000/t").is_ok());
        for bad in ["http://as.example/t", "http://localhost.example/t", "http://10.0.0.1/t"] {
            assert!(parse(bad).is_err(), "{bad}");
            assert!(Endpoint::parse("token endpoint", bad, true).is_ok(), "{bad}");
        }
        for bad in ["ftp://as.example/t", "file:///etc/passwd"] {
            assert!(Endpoint::parse("token endpoint", bad, true).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_not_in_the_error() {
        let error = parse("https://user:hunter2@as.example/token").unwrap_err().to_string();
        assert!(error.contains("as.example") && !error.contains("hunter2"), "{error}");
    }
}
