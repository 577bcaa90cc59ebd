use std::collections::BTreeSet;

use super::{FlowKind, OpenApi, OpenApiError, Protection, SecurityScheme, scheme::NAME_CAP};
use crate::{config::OAuthConfig, error::printable, http::is_loopback};

impl OpenApi {
    /// A draft for the only scheme of OAuth 2.0 or OpenID Connect; the client and its secret are
    /// missing. See [`config_for`](Self::config_for).
    ///
    /// # Errors
    ///
    /// [`OpenApiError::NoScheme`] or [`OpenApiError::SeveralSchemes`], and as
    /// [`config_for`](Self::config_for).
    pub fn config(&self) -> Result<OAuthConfig, OpenApiError> {
        match &*self.schemes {
            [] => Err(OpenApiError::NoScheme),
            [only] => self.draft(only),
            several => {
                // Of several, one may be the only one that a program alone can use.
                let usable: Vec<_> = several.iter().filter(|scheme| scheme.is_usable()).collect();
                match &*usable {
                    [only] => self.draft(only),
                    _ => Err(OpenApiError::SeveralSchemes(
                        several.iter().map(|scheme| printable(&scheme.name, NAME_CAP)).collect(),
                    )),
                }
            }
        }
    }

    /// A draft for the scheme with this name: client credentials at its token URL, or at its issuer,
    /// with the scopes that the operations need, for the origins of the servers.
    ///
    /// Where no operation names a scope, all that the scheme lists are taken. Origins that are plain
    /// `http`, other than on loopback, are left out, as no token may go there.
    ///
    /// # Errors
    ///
    /// [`OpenApiError::NoScheme`]; [`OpenApiError::NeedsUser`] when the scheme has no flow for a
    /// program alone; [`OpenApiError::Server`] when no origin is left; [`OpenApiError::Member`] when
    /// the issuer cannot be told by the URL of its metadata.
    pub fn config_for(&self, scheme: &str) -> Result<OAuthConfig, OpenApiError> {
        let found = self.schemes.iter().find(|known| known.name == scheme);
        self.draft(found.ok_or(OpenApiError::NoScheme)?)
    }

    fn draft(&self, scheme: &SecurityScheme) -> Result<OAuthConfig, OpenApiError> {
        // The default grant is the one that a program alone has.
        let mut config = OAuthConfig::default();
        let mut listed = BTreeSet::new();
        match &scheme.protection {
            Protection::OAuth2(flows) => {
                let Some(flow) = scheme.flow(FlowKind::ClientCredentials) else {
                    return Err(OpenApiError::NeedsUser {
                        scheme: printable(&scheme.name, NAME_CAP),
                        flows: flows.iter().map(|flow| flow.kind.as_str().to_owned()).collect(),
                    });
                };
                config.token_endpoint.clone_from(&flow.token_url);
                listed.extend(flow.scopes.keys().map(String::as_str));
            }
            Protection::OpenIdConnect(url) => {
                config.issuer = Some(issuer(url).ok_or_else(|| {
                    OpenApiError::member(
                        format!("components.securitySchemes.{}", printable(&scheme.name, NAME_CAP)),
                        format!(
                            "openIdConnectUrl \"{}\" is not below an issuer; configure issuer and \
                             discovery.metadata_url",
                            printable(url, 100)
                        ),
                    )
                })?);
            }
        }
        let needed: BTreeSet<_> =
            self.operations.iter().flat_map(|operation| operation.scopes(&scheme.name)).collect();
        let scopes = if needed.is_empty() { listed } else { needed };
        config.scope = scopes.into_iter().map(str::to_owned).collect();
        config.origins = self.safe_origins()?;
        Ok(config)
    }

    fn safe_origins(&self) -> Result<Vec<String>, OpenApiError> {
        let is_safe = |origin: &&String| match origin.split_once("://") {
            Some(("https", _)) => true,
            Some((_, authority)) => {
                let uri: Option<http::Uri> = format!("http://{authority}/").parse().ok();
                uri.is_some_and(|uri| uri.host().is_some_and(is_loopback))
            }
            None => false,
        };
        let safe: Vec<_> = self.origins.iter().filter(is_safe).cloned().collect();
        match self.origins.first() {
            Some(first) if safe.is_empty() => Err(OpenApiError::Server {
                url: printable(first, 100),
                reason: "it is plain http, and no other is https",
            }),
            Some(_) => Ok(safe),
            None => Err(OpenApiError::member(
                "servers",
                "it is missing: say where the document was found, with parse_at",
            )),
        }
    }
}

impl SecurityScheme {
    fn is_usable(&self) -> bool {
        matches!(self.protection, Protection::OpenIdConnect(_))
            || self.flow(FlowKind::ClientCredentials).is_some()
    }
}

/// The issuer whose metadata is at this URL.
fn issuer(url: &str) -> Option<String> {
    if let Some(issuer) = url.strip_suffix("/.well-known/openid-configuration") {
        return Some(issuer.to_owned());
    }
    // RFC 8414 §3.1: the well-known string is put "between the host component and the path
    // component, if any".
    let (origin, path) = url.split_once("/.well-known/oauth-authorization-server")?;
    (path.is_empty() || path.starts_with('/')).then(|| format!("{origin}{path}"))
}
