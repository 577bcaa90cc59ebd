use std::{fmt, str::FromStr};

use http::{HeaderMap, Uri, header::HOST, uri};

#[cfg(feature = "dpop")]
use crate::dpop::ProofUrl;
use crate::{
    error::ConfigError,
    http::{Authority, HttpRequest, Target, is_loopback, shown_url},
};

/// The origins that may receive the token: scheme, host and port ([RFC 9110 §4.3.1],
/// [RFC 9700 §4.9]).
///
/// Hosts are compared without regard to ASCII case ([RFC 3986 §6.2.2.1]) and otherwise exactly: a
/// host with a dot at its end is another host. An origin is `https`, except on loopback.
///
/// A request whose target has no authority, such as `/orders`, belongs to the server that the
/// service below is bound to. It gets the token, unless its `Host` header names an origin that is
/// not allowed, is malformed, or occurs twice. Requests with the methods `TRACE` and `CONNECT`
/// never get a token.
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
/// [RFC 3986 §6.2.2.1]: https://www.rfc-editor.org/rfc/rfc3986#section-6.2.2.1
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

    #[cfg(feature = "reqwest")]
    pub(super) fn is_any(&self) -> bool {
        self.0 == Allowed::Any
    }

    /// No origin: of a layer whose tenants have their own.
    #[cfg(feature = "pool")]
    pub(super) fn none() -> Self {
        Self(Allowed::Listed(Vec::new()))
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

    /// Returns whether the token may go where this request goes.
    #[inline]
    pub(super) fn allow_request(&self, request: &impl HttpRequest) -> bool {
        let target = request.target();
        match target.authority {
            Some(_) => self.allow(target),
            None => self.allow_bound(request.headers()),
        }
    }

    /// Returns whether the token may go to this target. A target without authority is judged by
    /// [`allow_bound`](Self::allow_bound).
    #[inline]
    pub(super) fn allow(&self, target: Target<'_>) -> bool {
        let Some(authority) = target.authority else { return false };
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

    /// Returns whether the token may go to a target that is only a path, as tonic sends it. The
    /// service below is bound to its server; but when the request names a server by its `Host`
    /// header, that must be an allowed one.
    #[cold]
    pub(super) fn allow_bound(&self, headers: &HeaderMap) -> bool {
        let Allowed::Listed(origins) = &self.0 else { return true };
        let mut hosts = headers.get_all(HOST).iter();
        let Some(host) = hosts.next() else { return true };
        // RFC 9110 §7.2: a server refuses a request with two of them, and which one counts is
        // anybody's guess until then.
        if hosts.next().is_some() {
            return false;
        }
        let Ok(authority) = uri::Authority::try_from(host.as_bytes()) else { return false };
        let Some((host, port)) = Authority::Text(authority.as_str()).split() else { return false };
        origins.iter().any(|origin| origin.is_at(host, port))
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
        self.scheme.is(scheme) && self.is_at(host, port)
    }

    fn is_at(&self, host: &str, port: Option<u16>) -> bool {
        self.host.eq_ignore_ascii_case(host)
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
    /// lengths take a call. Exact: `http` and `url` parse a scheme to lower case, and connectors
    /// treat one that a caller built as `HTTPS` as unknown.
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
            // RFC 3986 §6.2.2.1: "the scheme and host are case-insensitive".
            "https://API.example/",
            "HTTPS://Api.Example:443/",
            "https://API.EXAMPLE:8443/",
        ] {
            assert!(allows(&origins, good), "{good}");
        }
        for bad in [
            "http://api.example/",
            "https://api.example:8444/",
            "https://sub.api.example/",
            "https://example/",
            "https://api.example./",
            "https://API.example./",
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

    /// An http `Uri` that is put together takes any scheme. Connectors do not know this one, and might
    /// send the request in the clear.
    #[test]
    fn inj_03_a_scheme_that_connectors_do_not_know_gets_no_token() {
        let parts = Uri::builder().scheme("HTTPS").authority("api.example").path_and_query("/");
        let request = http::Request::get(parts.build().unwrap()).body(()).unwrap();
        let origins: Origins = "https://api.example".parse().unwrap();
        assert_eq!(request.target().scheme, Some("HTTPS"));
        assert!(!origins.allow(request.target()));
    }

    #[test]
    fn f81_a_path_alone_gets_the_token_unless_its_host_is_another_origin() {
        let listed = ["https://api.example", "http://localhost:8080", "http://127.0.0.1"];
        let origins = Origins::new(listed).unwrap();
        let any = Origins::danger_any_origin();
        let judge = |origins: &Origins, hosts: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, http::HeaderValue::from_bytes(host).unwrap());
            }
            origins.allow_bound(&headers)
        };
        let good: &[&[&[u8]]] = &[
            &[],
            &[b"api.example"],
            &[b"API.Example"],
            &[b"api.example:443"],
            &[b"localhost:8080"],
            &[b"127.0.0.1"],
            &[b"127.0.0.1:80"],
        ];
        for hosts in good {
            assert!(judge(&origins, hosts), "{hosts:?}");
        }
        let bad: &[&[&[u8]]] = &[
            &[b"evil.example"],
            &[b"api.example:80"],
            &[b"api.example:8443"],
            &[b"api.example."],
            &[b"localhost"],
            &[b"127.0.0.1:443"],
            &[b"evil@api.example"],
            &[b"api.example@evil.example"],
            &[b"api.example, evil.example"],
            &[b"api.example/"],
            &[b"https://api.example"],
            &[b""],
            &[b"api.example\xff"],
            &[b"api.example", b"api.example"],
            &[b"api.example", b"evil.example"],
        ];
        for hosts in bad {
            assert!(!judge(&origins, hosts), "{hosts:?}");
            assert!(judge(&any, hosts), "{hosts:?}");
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

        #[test]
        fn inj_03_no_host_header_makes_the_guard_panic_or_leak(text in "[a-zA-Z.:@\\[\\]0-9 ,]{0,24}") {
            let origins: Origins = "https://api.example".parse().unwrap();
            let mut headers = HeaderMap::new();
            headers.insert(HOST, text.parse().unwrap());
            if origins.allow_bound(&headers) {
                let text = text.to_ascii_lowercase();
                proptest::prop_assert!(text == "api.example" || text == "api.example:443");
            }
        }
    }
}
