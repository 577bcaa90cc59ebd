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
        let bad = |reason| ConfigError::Url { what, value: shown_url(value), reason };
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
        let has_port = authority.as_str().len() > authority.host().len();
        if authority.host().is_empty() || (has_port && authority.port_u16().is_none()) {
            return Err(bad("it has no valid host and port"));
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

    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme_str() == Some("https")
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

/// A URL as an error may show it: without user information, query and fragment, which may hold
/// passwords and keys. One of which it is not clear where they stand is not shown at all.
pub(crate) fn shown_url(value: &str) -> String {
    let is_scheme = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    let scheme_end = value.find("://").map(|at| at + 3);
    let scheme = scheme_end.and_then(|end| value.get(..end));
    let scheme = scheme.filter(|s| s.trim_end_matches("://").bytes().all(is_scheme));
    let scheme = scheme.unwrap_or_default();
    let rest = value.strip_prefix(scheme).unwrap_or(value);
    let (place, more) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    if path.contains('@') || more.contains('@') {
        return format!("{scheme}..");
    }
    let (user, host) = match authority.rsplit_once('@') {
        Some((_, host)) => ("..@", host),
        None => ("", authority),
    };
    let more = more.get(..1).map(|mark| format!("{mark}..")).unwrap_or_default();
    format!("{scheme}{user}{host}{path}{more}")
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
        for bad in [
            "https://as.example/token#x",
            "https://u:p@as.example/token",
            "https://as.example:p/token",
            "https://as.example:/token",
            "https://as.example:65536/token",
            "https://:443/token",
            "/token",
            "",
            "as",
        ] {
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
    fn f57_a_password_or_key_in_a_url_is_not_in_the_error() {
        for (url, shown) in [
            ("https://user:hunter2@as.example/token", "https://..@as.example/token"),
            ("ftp://as.example/token?key=hunter2", "ftp://as.example/token?.."),
            ("http://as.example/token?a=b&key=hunter2", "http://as.example/token?.."),
            ("https://as.example/token#hunter2", "https://as.example/token#.."),
            ("user:hunter2@as.example/token", "..@as.example/token"),
            ("as.example/token?key=hunter2", "as.example/token?.."),
            // What is the password, and what the host?
            ("https://user:hunter/2@as.example/token", "https://.."),
            ("https://user:hunter?2@as.example/token", "https://.."),
            ("https:/user:hunter2@as.example/token", ".."),
            ("http://as.example/token?key=@hunter2", "http://.."),
            ("as.example?next=https://as.example/hunter2", "as.example?.."),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.to_string().contains(&format!("{shown:?}")), "{url}: {error}");
            assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
        }
    }
}
