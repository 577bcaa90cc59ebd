use std::{fmt, str::FromStr};

use http::Uri;

#[cfg(feature = "dpop")]
use crate::dpop::ProofUrl;
use crate::{
    error::ConfigError,
    http::{Authority, Target, is_loopback, shown_url},
};

/// The origins that may receive the token: scheme, host and port, compared exactly
/// ([RFC 9110 §4.3.1], [RFC 9700 §4.9]).
///
/// `https` only, except for loopback. A host matches as it is written in lower case, as HTTP
/// clients write it; another spelling of it, such as one with a dot at its end, does not.
///
/// ```
/// use tower_oauth::Origins;
///
/// # fn main() -> Result<(), tower_oauth::ConfigError> {
/// let one: Origins = "https://api.example".parse()?;
/// let two = Origins::new(["https://api.example", "https://eu.api.example:8443"])?;
/// assert!("http://api.example".parse::<Origins>().is_err());
/// # let _ = (one, two);
/// # Ok(())
/// # }
/// ```
///
/// [RFC 9110 §4.3.1]: https://www.rfc-editor.org/rfc/rfc9110#section-4.3.1
/// [RFC 9700 §4.9]: https://www.rfc-editor.org/rfc/rfc9700#section-4.9
#[derive(Clone, PartialEq, Eq)]
pub struct Origins(Allowed);

#[derive(Clone, PartialEq, Eq)]
enum Allowed {
    Listed(Vec<Origin>),
    Any,
}

impl Origins {
    /// Allows these origins, such as `https://api.example` or `https://api.example:8443`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Url`] for one that has a path, a query or user information, that is not
    /// absolute, or that is plain `http` and not loopback.
    pub fn new<I>(origins: I) -> Result<Self, ConfigError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Self::parse(origins, false)
    }

    /// As [`new`](Self::new), and takes plain `http` on any host: for a network that encrypts by
    /// itself, such as a service mesh. Elsewhere it sends tokens in the clear.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn danger_allow_http<I>(origins: I) -> Result<Self, ConfigError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Self::parse(origins, true)
    }

    /// Sends the token wherever a request goes: for a client that can reach one API only. Anybody
    /// who can name a URL to it, or answer with a redirect, gets the token.
    pub fn danger_any_origin() -> Self {
        Self(Allowed::Any)
    }

    fn parse<I>(origins: I, allow_http: bool) -> Result<Self, ConfigError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let parse = |origin: I::Item| Origin::parse(origin.as_ref(), allow_http);
        let origins: Vec<_> = origins.into_iter().map(parse).collect::<Result<_, _>>()?;
        if origins.is_empty() {
            return Err(ConfigError::Setting {
                name: "origins",
                value: "empty".to_owned(),
                reason: "without an allowed origin no request would get a token",
            });
        }
        Ok(Self(Allowed::Listed(origins)))
    }

    /// The URL of a path at the only allowed origin; `None` if there are several, or any.
    #[cfg(feature = "dpop")]
    pub(super) fn only<'a>(&'a self, path: &'a str) -> Option<ProofUrl<'a>> {
        match &self.0 {
            Allowed::Listed(origins) => match &**origins {
                [Origin { scheme, host, port, .. }] => {
                    Some(ProofUrl::new(scheme.as_str(), host, *port, path))
                }
                _ => None,
            },
            Allowed::Any => None,
        }
    }

    /// Whether a request to this target may carry the token.
    #[inline]
    pub(super) fn allow(&self, target: Target<'_>) -> bool {
        let Some(authority) = target.authority else {
            // A path alone, as tonic sends: the service below is bound to its server.
            return true;
        };
        let Some(scheme) = target.scheme else {
            // An authority alone is a CONNECT request: it is read by a proxy.
            return false;
        };
        match &self.0 {
            Allowed::Any => true,
            Allowed::Listed(origins) => {
                origins.iter().any(|origin| origin.is_as_written(scheme, authority))
                    || origins.iter().any(|origin| origin.matches(scheme, authority))
            }
        }
    }
}

impl FromStr for Origins {
    type Err = ConfigError;

    fn from_str(origin: &str) -> Result<Self, ConfigError> {
        Self::new([origin])
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Allowed::Any => f.write_str("any origin"),
            Allowed::Listed(origins) => f
                .debug_list()
                .entries(origins.iter().map(|o| format!("{}://{}", o.scheme.as_str(), o.written)))
                .finish(),
        }
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Origin {
    scheme: Scheme,
    host: String,
    /// `None` is the scheme's default port.
    port: Option<u16>,
    /// Host and port as an HTTP client writes them: what nearly every request has.
    written: String,
}

impl Origin {
    fn parse(value: &str, allow_http: bool) -> Result<Self, ConfigError> {
        let bad = |reason| ConfigError::Url { what: "origin", value: shown_url(value), reason };
        let uri: Uri = value.parse().map_err(|_| bad("it is not a URL"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(bad("it must be absolute, such as https://api.example"));
        };
        if authority.as_str().contains('@') {
            return Err(bad("it must not have user information"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || value.contains('#') {
            return Err(bad("it is scheme, host and port only, without a path"));
        }
        let scheme = match scheme {
            "https" => Scheme::Https,
            "http" if allow_http || is_loopback(authority.host()) => Scheme::Http,
            _ => return Err(bad("it must be https, or http on a loopback address")),
        };
        let split = Authority::Text(authority.as_str()).split();
        let (host, port) = split.ok_or_else(|| bad("it has no valid port"))?;
        let host = host.to_ascii_lowercase();
        let port = port.filter(|port| *port != scheme.default_port());
        let written = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        Ok(Self { scheme, host, port, written })
    }

    fn is_as_written(&self, scheme: &str, authority: Authority<'_>) -> bool {
        self.scheme.is(scheme)
            && match authority {
                Authority::Text(text) => self.written == text,
                Authority::Parts(host, port) => self.host == host && self.port == port,
            }
    }

    fn matches(&self, scheme: &str, authority: Authority<'_>) -> bool {
        let Some((host, port)) = authority.split() else { return false };
        self.scheme.is(scheme)
            && self.host == host
            && self.port == port.filter(|port| *port != self.scheme.default_port())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Https,
    Http,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }

    /// Compares with a constant in each case: a few instructions, where two strings of unknown
    /// lengths take a call.
    fn is(self, scheme: &str) -> bool {
        match self {
            Self::Https => scheme == "https",
            Self::Http => scheme == "http",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HttpRequest;

    fn allows(origins: &Origins, url: &str) -> bool {
        let request = http::Request::get(url).body(()).unwrap();
        origins.allow(request.target())
    }

    #[test]
    fn inj_03_only_the_exact_origin_gets_the_token() {
        let origins = Origins::new(["https://api.example", "https://api.example:8443"]).unwrap();
        for good in [
            "https://api.example/a",
            "https://api.example",
            "https://api.example:443/a",
            "https://api.example:8443/a?b=https://evil.example",
            "/path/only",
        ] {
            assert!(allows(&origins, good), "{good}");
        }
        for bad in [
            "http://api.example/",
            "https://api.example:8444/",
            "https://sub.api.example/",
            "https://example/",
            "https://API.example/",
            "https://api.example./",
            "https://api.example@evil.example/",
            "https://user@api.example/",
            "https://user:pass@api.example/",
            "https://api.example.evil.example/",
            "https://xn--pi-kja.example/",
            "https://evil.example/https://api.example/",
            "https://[::1]/",
        ] {
            assert!(!allows(&origins, bad), "{bad}");
        }
    }

    #[test]
    fn inj_06_a_connect_request_gets_no_token() {
        let request = http::Request::connect("api.example:443").body(()).unwrap();
        for origins in [Origins::danger_any_origin(), "https://api.example".parse().unwrap()] {
            assert!(!origins.allow(request.target()));
        }
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        for good in ["http://127.0.0.1:9000", "http://localhost", "http://[::1]:8080"] {
            let origins: Origins = good.parse().unwrap();
            assert!(allows(&origins, good), "{good}");
            assert!(!allows(&origins, "http://127.0.0.2:9000/"));
        }
        assert!("http://api.example".parse::<Origins>().is_err());
        let mesh = Origins::danger_allow_http(["http://api.internal"]).unwrap();
        assert!(allows(&mesh, "http://api.internal:80/a"));
        assert!(!allows(&mesh, "https://api.internal/a"));
    }

    #[test]
    fn what_is_not_an_origin_is_refused() {
        for bad in [
            "",
            "api.example",
            "https://api.example/v1",
            "https://api.example/?a=b",
            "https://user:hunter2@api.example",
            "ftp://api.example",
            "https://api.example:99999",
        ] {
            let error = bad.parse::<Origins>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(Origins::new([""; 0]).is_err());
    }

    #[cfg(feature = "reqwest")]
    #[test]
    fn inj_03_reqwest_urls_are_judged_alike() {
        let origins: Origins = "https://api.example".parse().unwrap();
        let allows = |url: &str| {
            let request = reqwest::Request::new(http::Method::GET, url.parse().unwrap());
            origins.allow(request.target())
        };
        assert!(allows("https://api.example/a"));
        assert!(allows("https://API.example:443/a"));
        assert!(!allows("https://api.example@evil.example/"));
        assert!(!allows("https://api.example:8443/"));
        assert!(!allows("http://api.example/"));
    }

    proptest::proptest! {
        #[test]
        fn f21_no_authority_makes_the_guard_panic_or_leak(text in "[a-z.:@\\[\\]0-9]{0,24}") {
            let origins: Origins = "https://api.example".parse().unwrap();
            let target = Target { scheme: Some("https"), authority: Some(Authority::Text(&text)) };
            if origins.allow(target) {
                proptest::prop_assert!(text == "api.example" || text == "api.example:443");
            }
        }
    }
}
