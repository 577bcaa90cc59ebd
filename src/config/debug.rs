//! `Debug` of configurations: a URL may hold a password or a key, and a parameter may be one.

use std::{collections::BTreeMap, fmt};

use super::oauth::{DiscoveryConfig, OAuthConfig};
use crate::http::shown_url;

impl fmt::Debug for OAuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // All of them by name, so that a new one is thought of here.
        let Self {
            token_endpoint,
            issuer,
            origins,
            scope,
            grant,
            client,
            discovery,
            revocation_endpoint,
            resource,
            resource_identifier,
            audience,
            authorization_details,
            parameters,
            timeout,
            body_limit,
            max_lifetime,
            strict,
            assume_bearer,
            error_codes,
            dpop,
            fapi2,
            danger_allow_http,
            handle,
            layer,
        } = self;
        f.debug_struct("OAuthConfig")
            .field("token_endpoint", &shown(token_endpoint))
            .field("issuer", &shown(issuer))
            .field("origins", &all(origins))
            .field("scope", scope)
            .field("grant", grant)
            .field("client", client)
            .field("discovery", discovery)
            .field("revocation_endpoint", &shown(revocation_endpoint))
            .field("resource", &all(resource))
            .field("resource_identifier", resource_identifier)
            .field("audience", &all(audience))
            .field("authorization_details", authorization_details)
            .field("parameters", &names(parameters))
            .field("timeout", timeout)
            .field("body_limit", body_limit)
            .field("max_lifetime", max_lifetime)
            .field("strict", strict)
            .field("assume_bearer", assume_bearer)
            .field("error_codes", error_codes)
            .field("dpop", dpop)
            .field("fapi2", fapi2)
            .field("danger_allow_http", danger_allow_http)
            .field("handle", handle)
            .field("layer", layer)
            .finish()
    }
}

impl fmt::Debug for DiscoveryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metadata_url, hosts, timeout, danger_expect_issuer } = self;
        f.debug_struct("DiscoveryConfig")
            .field("metadata_url", &shown(metadata_url))
            .field("hosts", &all(hosts))
            .field("timeout", timeout)
            .field("danger_expect_issuer", &shown(danger_expect_issuer))
            .finish()
    }
}

#[expect(clippy::ref_option, reason = "as the fields are")]
fn shown(url: &Option<String>) -> Option<String> {
    url.as_deref().map(shown_url)
}

fn all(urls: &[String]) -> Vec<String> {
    urls.iter().map(|url| shown_url(url)).collect()
}

fn names(parameters: &BTreeMap<String, String>) -> Vec<&str> {
    parameters.keys().map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f57_debug_shows_where_servers_are_without_what_may_be_a_password_or_a_key() {
        let url = |host: &str| Some(format!("https://user:hunter2@{host}/?key=hunter2"));
        let config = OAuthConfig {
            token_endpoint: url("token.example"),
            issuer: url("issuer.example"),
            origins: url("origin.example").into_iter().collect(),
            revocation_endpoint: url("revocation.example"),
            resource: url("resource.example").into_iter().collect(),
            audience: url("audience.example").into_iter().collect(),
            parameters: BTreeMap::from([("tenant".into(), "hunter2".into())]),
            discovery: DiscoveryConfig {
                metadata_url: url("metadata.example"),
                hosts: url("host.example").into_iter().collect(),
                danger_expect_issuer: url("expected.example"),
                ..DiscoveryConfig::default()
            },
            ..OAuthConfig::default()
        };
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        for name in ["token", "issuer", "origin", "revocation", "resource", "audience", "metadata"]
            .into_iter()
            .chain(["host", "expected"])
        {
            assert!(shown.contains(&format!("https://..@{name}.example/?..")), "{name}: {shown}");
        }
        assert!(shown.contains(r#"["tenant"]"#), "{shown}");
    }
}
