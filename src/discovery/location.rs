//! Where metadata is to be found.

use crate::{
    error::ConfigError,
    http::{Endpoint, shown_url},
};

/// Where an issuer's metadata may be, in the order in which they are asked.
///
/// [RFC 8414 §3.1] puts the well-known part between host and path, OpenID Connect Discovery at the
/// end; RFC 8414 §5 has a form in between.
///
/// [RFC 8414 §3.1]: https://www.rfc-editor.org/rfc/rfc8414#section-3.1
pub(super) fn of_issuer(issuer: &str, allow_http: bool) -> Result<Vec<Endpoint>, ConfigError> {
    Endpoint::parse("issuer", issuer, allow_http)?;
    if issuer.contains('?') {
        // RFC 8414 §2: "a URL that uses the "https" scheme and has no query or fragment"
        let (what, value, reason) = ("issuer", shown_url(issuer), "an issuer has no query");
        return Err(ConfigError::Url { what, value, reason });
    }
    let (origin, path) = split(issuer);
    // RFC 8414 §3.1: "any terminating "/" MUST be removed before inserting"
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut urls = vec![
        format!("{origin}/.well-known/{OAUTH}{path}"),
        format!("{origin}/.well-known/{OPENID}{path}"),
    ];
    if !path.is_empty() {
        urls.push(format!("{origin}{path}/.well-known/{OPENID}"));
    }
    urls.iter().map(|url| Endpoint::parse("issuer", url, allow_http)).collect()
}

/// Where the metadata of a protected resource is ([RFC 9728 §3.1]): the well-known part stands
/// before path and query.
///
/// [RFC 9728 §3.1]: https://www.rfc-editor.org/rfc/rfc9728#section-3.1
pub(super) fn of_resource(resource: &str, allow_http: bool) -> Result<Endpoint, ConfigError> {
    Endpoint::parse("resource", resource, allow_http)?;
    let (origin, rest) = split(resource);
    // RFC 9728 §3.1: "any terminating slash (/) following the host component MUST be removed"
    let bare = rest.strip_prefix('/').filter(|rest| rest.is_empty() || rest.starts_with('?'));
    let rest = bare.unwrap_or(rest);
    Endpoint::parse("resource", &format!("{origin}/.well-known/{RESOURCE}{rest}"), allow_http)
}

/// A URL that was checked, before and after the end of its authority.
fn split(url: &str) -> (&str, &str) {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(start..).and_then(|rest| rest.find(['/', '?']));
    url.split_at(end.map_or(url.len(), |end| start + end))
}

const OAUTH: &str = "oauth-authorization-server";
const OPENID: &str = "openid-configuration";
const RESOURCE: &str = "oauth-protected-resource";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(urls: &[Endpoint]) -> Vec<String> {
        urls.iter().map(|url| url.uri().to_string()).collect()
    }

    #[test]
    fn dsc_01_the_well_known_part_is_inserted_and_for_openid_appended() {
        let of_a_path = [
            "https://example.com/.well-known/oauth-authorization-server/issuer1",
            "https://example.com/.well-known/openid-configuration/issuer1",
            "https://example.com/issuer1/.well-known/openid-configuration",
        ];
        let of_a_host = [
            "https://example.com/.well-known/oauth-authorization-server",
            "https://example.com/.well-known/openid-configuration",
        ];
        for (issuer, expected) in [
            ("https://example.com", &of_a_host[..]),
            ("https://example.com/", &of_a_host[..]),
            ("https://example.com/issuer1", &of_a_path[..]),
            ("https://example.com/issuer1/", &of_a_path[..]),
        ] {
            assert_eq!(texts(&of_issuer(issuer, false).unwrap()), expected, "{issuer}");
        }
        for bad in ["https://example.com?a=b", "https://example.com/#a", "example.com", "", "/"] {
            assert!(of_issuer(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn dsc_05_the_well_known_part_stands_before_path_and_query() {
        for (resource, expected) in [
            ("", ""),
            ("/", ""),
            ("/resource1", "/resource1"),
            ("/resource1/", "/resource1/"),
            ("/r?t=1", "/r?t=1"),
            ("?t=1", "?t=1"),
            ("/?t=1", "?t=1"),
        ] {
            let resource = format!("https://resource.example.com{resource}");
            let expected = format!(
                "https://resource.example.com/.well-known/oauth-protected-resource{expected}"
            );
            let found = of_resource(&resource, false).unwrap();
            assert_eq!(found.uri().to_string(), expected, "{resource}");
        }
        assert!(of_resource("https://resource.example.com/#a", false).is_err());
    }

    proptest! {
        #[test]
        fn dsc_01_no_location_leaves_the_issuers_origin(path in "[a-z%.~/@:?-]{0,20}") {
            if let Ok(urls) = of_issuer(&format!("https://idp.example/{path}"), false) {
                for url in urls {
                    prop_assert_eq!(url.uri().authority().unwrap().as_str(), "idp.example");
                }
            }
        }
    }
}
