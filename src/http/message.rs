#[cfg(feature = "reqwest")]
use std::hash::{DefaultHasher, Hash, Hasher};

use http::{Extensions, HeaderMap, Method, StatusCode, Version};

#[cfg(feature = "mtls")]
use crate::error::{Error, ErrorKind};

/// A request as the middleware sees it: `http::Request<B>`, or `reqwest::Request` with the feature
/// `reqwest`.
///
/// This trait is sealed.
pub trait HttpRequest: sealed::SealedRequest {
    /// The method.
    fn method(&self) -> &Method;
    /// The HTTP version that the caller asked for.
    fn version(&self) -> Version;
    /// The header fields.
    fn headers(&self) -> &HeaderMap;
    /// The header fields, to be changed.
    fn headers_mut(&mut self) -> &mut HeaderMap;
    /// Where the request goes.
    fn target(&self) -> Target<'_>;
    /// The path of the target, without its query.
    fn path(&self) -> &str;
}

/// A response as the middleware sees it: `http::Response<B>`, or `reqwest::Response` with the
/// feature `reqwest`.
///
/// This trait is sealed.
pub trait HttpResponse: sealed::SealedResponse {
    /// The status code.
    fn status(&self) -> StatusCode;
    /// The header fields.
    fn headers(&self) -> &HeaderMap;
    /// What was noted about the response.
    fn extensions(&self) -> &Extensions;
    /// What was noted about the response, to be added to.
    fn extensions_mut(&mut self) -> &mut Extensions;
    /// Where the response came from, if it tells: a client that follows redirects may have gone
    /// somewhere else than it was sent.
    fn origin(&self) -> Option<Target<'_>>;
}

/// The origin part of a request's target, as it stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// The scheme, if the target has one.
    pub scheme: Option<&'a str>,
    /// The host, and the port if it stands there: `api.example:8443`. `None` for a request that
    /// names only a path: the service below is bound to one server.
    pub authority: Option<Authority<'a>>,
}

/// The authority of a target: as one piece of text, or already in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority<'a> {
    /// As in a URI, with everything that may stand there.
    Text(&'a str),
    /// A host and a port that differs from the scheme's default.
    Parts(&'a str, Option<u16>),
}

impl<'a> Authority<'a> {
    /// Host and port. One with user information has neither: in `api.example@evil.example` the
    /// host is not what it seems.
    pub(crate) fn split(self) -> Option<(&'a str, Option<u16>)> {
        let authority = match self {
            Self::Text(text) => text,
            Self::Parts(host, port) => return Some((host, port)),
        };
        if authority.contains('@') {
            return None;
        }
        // The colons of an IPv6 literal stand inside brackets.
        let host_end = authority.find(']').map_or(0, |end| end + 1);
        let Some(colon) = authority.get(host_end..)?.rfind(':') else {
            return Some((authority, None));
        };
        let (host, port) = authority.split_at_checked(host_end + colon)?;
        Some((host, Some(port.strip_prefix(':')?.parse().ok()?)))
    }
}

impl<B> HttpRequest for http::Request<B> {
    fn method(&self) -> &Method {
        self.method()
    }

    fn version(&self) -> Version {
        self.version()
    }

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }

    fn target(&self) -> Target<'_> {
        let uri = self.uri();
        Target {
            scheme: uri.scheme_str(),
            authority: uri.authority().map(|authority| Authority::Text(authority.as_str())),
        }
    }

    fn path(&self) -> &str {
        self.uri().path()
    }
}

impl<B> HttpResponse for http::Response<B> {
    fn status(&self) -> StatusCode {
        self.status()
    }

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    fn extensions(&self) -> &Extensions {
        self.extensions()
    }

    fn extensions_mut(&mut self) -> &mut Extensions {
        self.extensions_mut()
    }

    fn origin(&self) -> Option<Target<'_>> {
        None
    }
}

#[cfg(feature = "reqwest")]
impl HttpRequest for reqwest::Request {
    fn method(&self) -> &Method {
        self.method()
    }

    fn version(&self) -> Version {
        self.version()
    }

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }

    fn target(&self) -> Target<'_> {
        of_url(self.url())
    }

    fn path(&self) -> &str {
        self.url().path()
    }
}

#[cfg(feature = "reqwest")]
impl HttpResponse for reqwest::Response {
    fn status(&self) -> StatusCode {
        self.status()
    }

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    fn extensions(&self) -> &Extensions {
        self.extensions()
    }

    fn extensions_mut(&mut self) -> &mut Extensions {
        self.extensions_mut()
    }

    fn origin(&self) -> Option<Target<'_>> {
        // The name that reqwest gives to responses it has not received itself.
        let known = self.url().host_str() != Some("no.url.provided.local");
        known.then(|| of_url(self.url()))
    }
}

/// Returns the target of a request to this URL.
#[cfg(feature = "reqwest")]
pub(crate) fn of_url(url: &reqwest::Url) -> Target<'_> {
    Target {
        scheme: Some(url.scheme()),
        // A URL without a host goes nowhere that was allowed.
        authority: Some(Authority::Parts(url.host_str().unwrap_or_default(), url.port())),
    }
}

/// A number for an origin.
#[cfg(feature = "reqwest")]
fn print(Target { scheme, authority }: Target<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (scheme, authority.and_then(Authority::split)).hash(&mut hasher);
    hasher.finish()
}

#[cfg(feature = "mtls")]
fn unsendable(source: reqwest::Error) -> Error {
    Error::new(ErrorKind::Origin, "the request's URL is none that can be sent").with_source(source)
}

mod sealed {
    #[cfg(feature = "mtls")]
    use http::Extensions;
    use http::{
        Version,
        header::{CONTENT_LENGTH, TRANSFER_ENCODING},
    };

    #[cfg(feature = "reqwest")]
    use super::HttpResponse;
    #[cfg(feature = "mtls")]
    use crate::error::Error;

    pub trait SealedRequest {
        /// A number for the origin, to compare with that of the response; the same one for all
        /// requests whose responses do not tell where they came from.
        fn origin_print(&self) -> u64;

        /// Changes what is noted about the request.
        #[cfg(feature = "mtls")]
        fn annotate(&mut self, change: impl FnOnce(&mut Extensions)) -> Result<(), Error>;
    }

    pub trait SealedResponse {
        /// The number of the origin that the response came from, if it tells.
        fn origin_print(&self) -> Option<u64>;

        /// Whether a connection may be busy until the body was read.
        fn may_hold_connection(&self) -> bool;
    }

    impl<B> SealedRequest for http::Request<B> {
        fn origin_print(&self) -> u64 {
            0
        }

        #[cfg(feature = "mtls")]
        fn annotate(&mut self, change: impl FnOnce(&mut Extensions)) -> Result<(), Error> {
            change(self.extensions_mut());
            Ok(())
        }
    }

    impl<B> SealedResponse for http::Response<B> {
        fn origin_print(&self) -> Option<u64> {
            None
        }

        fn may_hold_connection(&self) -> bool {
            // What is short has been read from the connection with the head.
            let length = self.headers().get(CONTENT_LENGTH);
            let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
            let is_long = length.is_some_and(|length| length > SHORT);
            let is_chunked = self.headers().contains_key(TRANSFER_ENCODING);
            self.version() <= Version::HTTP_11 && (is_long || is_chunked)
        }
    }

    #[cfg(feature = "reqwest")]
    impl SealedRequest for reqwest::Request {
        fn origin_print(&self) -> u64 {
            super::print(super::of_url(self.url()))
        }

        /// reqwest keeps the extensions of its requests to itself, but takes and gives them when it
        /// converts.
        #[cfg(feature = "mtls")]
        fn annotate(&mut self, change: impl FnOnce(&mut Extensions)) -> Result<(), Error> {
            let url = self.url().clone();
            let empty = Self::new(self.method().clone(), url.clone());
            let request = std::mem::replace(self, empty);
            let request = http::Request::<reqwest::Body>::try_from(request);
            let mut request = request.map_err(super::unsendable)?;
            change(request.extensions_mut());
            *self = request.try_into().map_err(super::unsendable)?;
            // As it was, whatever became of it on the way.
            *self.url_mut() = url;
            Ok(())
        }
    }

    #[cfg(feature = "reqwest")]
    impl SealedResponse for reqwest::Response {
        fn origin_print(&self) -> Option<u64> {
            HttpResponse::origin(self).map(super::print)
        }

        /// It has as many connections as it needs.
        fn may_hold_connection(&self) -> bool {
            false
        }
    }

    /// How long a body is at most that has been read along with the head.
    const SHORT: u64 = 4096;
}
