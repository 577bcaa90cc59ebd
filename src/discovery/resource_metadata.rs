use std::{fmt, sync::Arc};

use serde_json::Value;

use super::{Discovery, document::Document};
use crate::error::{Error, ErrorKind, printable};

/// What an API says about itself ([RFC 9728 §2]).
///
/// Its resource has been checked; the other members are checked when they are asked for.
/// `signed_metadata` is not looked at.
///
/// [RFC 9728 §2]: https://www.rfc-editor.org/rfc/rfc9728#section-2
pub struct ResourceMetadata {
    resource: String,
    document: Document,
    issuers: Arc<[Discovery]>,
}

impl ResourceMetadata {
    /// Reads a document; says what is wrong if it is none. `resource` is what it has to be about,
    /// `issuers` the authorization servers that are configured.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Discovery`] when it is about another resource.
    pub(super) fn parse(
        body: &[u8],
        resource: &str,
        issuers: Arc<[Discovery]>,
    ) -> Result<Result<Self, String>, Error> {
        let document = match Document::parse(body) {
            Ok(document) => document,
            Err(problem) => return Ok(Err(problem)),
        };
        // RFC 9728 §3.3: "The resource value returned MUST be identical to the protected resource's
        // resource identifier value into which the well-known URI path suffix was inserted [...] If
        // [...] via the WWW-Authenticate resource_metadata parameter, then the resource value
        // returned MUST be identical to the URL that the client used to make the request [...] If
        // these values are not identical, the data contained in the response MUST NOT be used."
        let found = document.text("resource")?;
        if found != Some(resource) {
            let found = found.map(|found| format!("\"{}\"", printable(found, URL_CAP)));
            return Err(Error::new(
                ErrorKind::Discovery,
                format!(
                    "the resource in the metadata is {} and has to be \"{}\", to the letter",
                    found.as_deref().unwrap_or("none"),
                    printable(resource, URL_CAP)
                ),
            ));
        }
        Ok(Ok(Self { resource: resource.to_owned(), document, issuers }))
    }

    /// The resource, as it was asked for. A grant sends it as its `resource`, so that the token is
    /// good at this API only.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The configured authorization servers among those that the API names, in the order in which
    /// they are configured. All of them if it names none at all.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::MalformedResponse`] when the member is malformed.
    pub fn authorization_servers(&self) -> Result<Vec<&Discovery>, Error> {
        let named = self.document.list("authorization_servers")?;
        let is_named = |issuer: &&Discovery| {
            named.as_ref().is_none_or(|named| named.contains(&issuer.configured_issuer()))
        };
        Ok(self.issuers.iter().filter(is_named).collect())
    }

    /// The authorization server to use: the first that is configured, of those that the API names.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Discovery`] when none is configured: an API cannot choose where credentials go.
    pub fn authorization_server(&self) -> Result<&Discovery, Error> {
        self.authorization_servers()?.into_iter().next().ok_or_else(|| {
            let named = self.document.list("authorization_servers").ok().flatten();
            let named: Vec<_> = named.iter().flatten().take(5).collect();
            let named: Vec<_> = named.iter().map(|issuer| printable(issuer, 100)).collect();
            Error::new(
                ErrorKind::Discovery,
                format!(
                    "the API takes tokens of authorization servers none of which is configured: {}",
                    named.join(", ")
                ),
            )
        })
    }

    /// The scopes that the API knows, if it says. They are not for asking for all of them: a token
    /// should have no more than it is needed for.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::MalformedResponse`] when the member is malformed.
    pub fn scopes_supported(&self) -> Result<Option<Vec<&str>>, Error> {
        self.document.list("scopes_supported")
    }

    /// Any member, unchecked.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.document.get(name)
    }
}

impl fmt::Debug for ResourceMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceMetadata").field("resource", &self.resource).finish_non_exhaustive()
    }
}

const URL_CAP: usize = 200;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RESOURCE: &str = "https://api.example/orders";

    fn parse(body: &str) -> Result<ResourceMetadata, Error> {
        let issuers = ["https://one.example", "https://two.example"].map(Discovery::issuer);
        let parsed = ResourceMetadata::parse(body.as_bytes(), RESOURCE, issuers.into())?;
        parsed.map_err(|problem| Error::new(ErrorKind::MalformedResponse, problem))
    }

    fn with(members: &str) -> ResourceMetadata {
        parse(&format!(r#"{{"resource":"{RESOURCE}"{members}}}"#)).unwrap()
    }

    #[test]
    fn dsc_05_metadata_is_about_the_very_resource_or_unusable() {
        for found in [
            r#""https://api.example/orders/""#,
            r#""https://api.example""#,
            r#""https://api.example/""#,
            r#""https://api.example/Orders""#,
            r#""https://api.example/orders/1""#,
            r#""https://api.example/orders?a=b""#,
            r#""https://other.example/orders""#,
            r#""https://api.example:443/orders""#,
            r#"["https://api.example/orders"]"#,
            "null",
        ] {
            assert!(parse(&format!(r#"{{"resource":{found}}}"#)).is_err(), "{found}");
        }
        assert_eq!(parse("{}").unwrap_err().kind(), ErrorKind::Discovery);
        assert_eq!(parse("[]").unwrap_err().kind(), ErrorKind::MalformedResponse);
        assert_eq!(with("").resource(), RESOURCE);
    }

    #[test]
    fn dsc_07_only_configured_authorization_servers_count() {
        let issuers = |members: &str| {
            let metadata = with(members);
            let found = metadata.authorization_servers().unwrap();
            found.iter().map(|issuer| issuer.configured_issuer().to_owned()).collect::<Vec<_>>()
        };
        let named = r#","authorization_servers":["https://evil.example","https://two.example","https://one.example"]"#;
        assert_eq!(issuers(named), ["https://one.example", "https://two.example"]);
        let one = r#","authorization_servers":["https://two.example","https://one.example/"]"#;
        assert_eq!(issuers(one), ["https://two.example"]);
        assert_eq!(issuers("").len(), 2);

        let evil = with(r#","authorization_servers":["https://evil.example/\n"]"#);
        let error = evil.authorization_server().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Discovery);
        assert!(error.to_string().contains(r"https://evil.example/\u{a}"), "{error}");
        assert!(with(r#","authorization_servers":[]"#).authorization_server().is_err());
        let malformed = with(r#","authorization_servers":"https://one.example""#);
        assert!(malformed.authorization_servers().is_err());
    }

    #[test]
    fn scopes_are_read() {
        let scopes = with(r#","scopes_supported":["a","b"]"#);
        assert_eq!(scopes.scopes_supported().unwrap(), Some(vec!["a", "b"]));
        assert!(with(r#","scopes_supported":"a""#).scopes_supported().is_err());
    }

    proptest! {
        #[test]
        fn dsc_05_no_bytes_make_the_reader_panic(body: Vec<u8>) {
            let _ = ResourceMetadata::parse(&body, RESOURCE, [].into());
        }
    }
}
