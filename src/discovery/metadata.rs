use std::fmt;

use http::Uri;
use serde_json::Value;

use super::{
    document::{Document, malformed},
    trust::Trust,
};
use crate::{
    error::{Error, ErrorKind, printable},
    http::Endpoint,
};

/// What an authorization server says about itself ([RFC 8414 §2], OpenID Connect Discovery).
///
/// Its issuer has been checked. Every other member is checked when it is asked for, so that one
/// which is malformed harms only those who need it. `signed_metadata` is not looked at.
///
/// [RFC 8414 §2]: https://www.rfc-editor.org/rfc/rfc8414#section-2
pub struct Metadata {
    issuer: String,
    document: Document,
    trust: Trust,
}

/// An endpoint of an authorization server, as its metadata names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndpointKind {
    /// Where a user signs in.
    Authorization,
    /// Where tokens come from.
    Token,
    /// Where tokens are revoked ([RFC 7009](https://www.rfc-editor.org/rfc/rfc7009)).
    Revocation,
    /// Where tokens are looked up ([RFC 7662](https://www.rfc-editor.org/rfc/rfc7662)).
    Introspection,
    /// Where authorization requests are sent ahead
    /// ([RFC 9126](https://www.rfc-editor.org/rfc/rfc9126)).
    PushedAuthorizationRequest,
    /// Where a device starts ([RFC 8628](https://www.rfc-editor.org/rfc/rfc8628)).
    DeviceAuthorization,
}

impl EndpointKind {
    /// The name of the member in the metadata, such as `token_endpoint`.
    pub fn member(self) -> &'static str {
        match self {
            Self::Authorization => "authorization_endpoint",
            Self::Token => "token_endpoint",
            Self::Revocation => "revocation_endpoint",
            Self::Introspection => "introspection_endpoint",
            Self::PushedAuthorizationRequest => "pushed_authorization_request_endpoint",
            Self::DeviceAuthorization => "device_authorization_endpoint",
        }
    }

    /// What it is called in errors.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Authorization => "authorization endpoint",
            Self::Token => "token endpoint",
            Self::Revocation => "revocation endpoint",
            Self::Introspection => "introspection endpoint",
            Self::PushedAuthorizationRequest => "pushed authorization request endpoint",
            Self::DeviceAuthorization => "device authorization endpoint",
        }
    }
}

impl Metadata {
    /// Reads a document; says what is wrong if it is none, which is one that names no issuer. `issuer`
    /// is what its issuer has to be.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Discovery`] when it is another issuer's, [`ErrorKind::MalformedResponse`] when it
    /// names two.
    pub(super) fn parse(
        body: &[u8],
        issuer: &str,
        trust: Trust,
    ) -> Result<Result<Self, String>, Error> {
        let document = match Document::parse(body) {
            Ok(document) => document,
            Err(problem) => return Ok(Err(problem)),
        };
        if !document.has("issuer") {
            return Ok(Err("JSON without an issuer".to_owned()));
        }
        // RFC 8414 §3.3: "The "issuer" value returned MUST be identical to the authorization
        // server's issuer identifier value into which the well-known URI string was inserted [...]
        // If these values are not identical, the data contained in the response MUST NOT be used."
        let found = document.text("issuer")?;
        if found != Some(issuer) {
            let found = found.map(|found| format!("\"{}\"", printable(found, ISSUER_CAP)));
            let found = found.unwrap_or_else(|| "none".to_owned());
            return Err(Error::new(
                ErrorKind::Discovery,
                format!(
                    "the metadata's issuer is {found} and has to be \"{}\", to the letter",
                    printable(issuer, ISSUER_CAP)
                ),
            ));
        }
        Ok(Ok(Self { issuer: issuer.to_owned(), document, trust }))
    }

    /// The issuer: the one that was asked for.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The URL of an endpoint.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Discovery`] when the metadata does not name it, or names a URL that is not
    /// allowed; [`ErrorKind::MalformedResponse`] when it is not a string.
    pub fn endpoint(&self, kind: EndpointKind) -> Result<Uri, Error> {
        self.locate(kind, false).map(|endpoint| endpoint.uri().clone())
    }

    /// The URL of an endpoint for a client that uses mutual TLS: its alias in
    /// `mtls_endpoint_aliases` if there is one ([RFC 8705 §5]).
    ///
    /// # Errors
    ///
    /// As [`endpoint`](Self::endpoint).
    ///
    /// [RFC 8705 §5]: https://www.rfc-editor.org/rfc/rfc8705#section-5
    pub fn mtls_endpoint(&self, kind: EndpointKind) -> Result<Uri, Error> {
        self.locate(kind, true).map(|endpoint| endpoint.uri().clone())
    }

    /// Any member, unchecked.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.document.get(name)
    }

    pub(crate) fn locate(&self, kind: EndpointKind, mtls: bool) -> Result<Endpoint, Error> {
        let alias = if mtls { self.alias(kind)? } else { None };
        let url = match alias {
            Some(alias) => Some(alias),
            None => self.document.text(kind.member())?,
        };
        let url = url.ok_or_else(|| {
            let name = kind.member();
            Error::new(
                ErrorKind::Discovery,
                format!("the authorization server's metadata has no {name}: configure its URL"),
            )
        })?;
        self.trust.check(kind.member(), url)
    }

    fn alias(&self, kind: EndpointKind) -> Result<Option<&str>, Error> {
        // RFC 8705 §5: aliases are for endpoints that the client itself makes requests to; "the
        // client MUST ignore" the others.
        if kind == EndpointKind::Authorization {
            return Ok(None);
        }
        let alias = self.document.object(ALIASES)?.and_then(|aliases| aliases.get(kind.member()));
        match alias {
            Some(Value::String(url)) => Ok(Some(url)),
            None | Some(Value::Null) => Ok(None),
            Some(_) => {
                let name = kind.member();
                Err(malformed(format!(
                    "the metadata's {ALIASES} has a {name} that is not a string"
                )))
            }
        }
    }

    /// How a client may authenticate at an endpoint, if the server says.
    pub(crate) fn auth_methods(&self, kind: EndpointKind) -> Result<Option<Vec<&str>>, Error> {
        self.of_auth(kind, "methods_supported")
    }

    /// The algorithms in which an assertion of the client may be signed, if the server says.
    pub(crate) fn auth_algorithms(&self, kind: EndpointKind) -> Result<Option<Vec<&str>>, Error> {
        self.of_auth(kind, "signing_alg_values_supported")
    }

    /// The algorithms in which proofs of a key may be signed, if the server says
    /// ([RFC 9449 §5.1](https://www.rfc-editor.org/rfc/rfc9449#section-5.1)).
    #[cfg(feature = "dpop")]
    pub(crate) fn proof_algorithms(&self) -> Result<Option<Vec<&str>>, Error> {
        self.document.list("dpop_signing_alg_values_supported")
    }

    /// Revocation and introspection may have lists of their own; where they have none, real servers
    /// mean the token endpoint's.
    fn of_auth(&self, kind: EndpointKind, what: &str) -> Result<Option<Vec<&str>>, Error> {
        if matches!(kind, EndpointKind::Revocation | EndpointKind::Introspection) {
            let own = self.document.list(&format!("{}_auth_{what}", kind.member()))?;
            if own.is_some() {
                return Ok(own);
            }
        }
        self.document.list(&format!("token_endpoint_auth_{what}"))
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

const ALIASES: &str = "mtls_endpoint_aliases";
const ISSUER_CAP: usize = 200;

#[cfg(test)]
mod tests;
