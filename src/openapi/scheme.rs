use std::collections::BTreeMap;

use serde_json::Value;

use super::{OpenApiError, document::Document, server::Server};
use crate::error::printable;

/// A security scheme of OAuth 2.0 or OpenID Connect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecurityScheme {
    /// Its name in the document.
    pub name: String,
    /// How it protects.
    pub protection: Protection,
}

/// How a security scheme protects.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protection {
    /// By OAuth 2.0, with these flows.
    OAuth2(Vec<Flow>),
    /// By OpenID Connect: the URL of the issuer's metadata.
    OpenIdConnect(String),
}

/// One way to a token.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flow {
    /// Which one.
    pub kind: FlowKind,
    /// The token endpoint. An implicit flow has none.
    pub token_url: Option<String>,
    /// Where refresh tokens are sent, if somewhere else.
    pub refresh_url: Option<String>,
    /// The scopes that there are, and what each of them is.
    pub scopes: BTreeMap<String, String>,
}

/// The flows of OAuth 2.0, by OpenAPI's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlowKind {
    /// `clientCredentials`: the only one for a program alone.
    ClientCredentials,
    /// `authorizationCode`.
    AuthorizationCode,
    /// `implicit`.
    Implicit,
    /// `password`.
    Password,
    /// `deviceAuthorization`, since OpenAPI 3.2.
    DeviceAuthorization,
}

impl FlowKind {
    /// Its name in a document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientCredentials => "clientCredentials",
            Self::AuthorizationCode => "authorizationCode",
            Self::Implicit => "implicit",
            Self::Password => "password",
            Self::DeviceAuthorization => "deviceAuthorization",
        }
    }
}

impl SecurityScheme {
    /// The flow of this kind, if it has it.
    pub fn flow(&self, kind: FlowKind) -> Option<&Flow> {
        match &self.protection {
            Protection::OAuth2(flows) => flows.iter().find(|flow| flow.kind == kind),
            Protection::OpenIdConnect(_) => None,
        }
    }
}

/// All schemes that are about tokens. Relative URLs start at `server`.
pub(super) fn all(
    document: &Document<'_>,
    server: Option<&Server>,
) -> Result<Vec<SecurityScheme>, OpenApiError> {
    let mut schemes = Vec::new();
    let Some(components) = document.0.get("components") else { return Ok(schemes) };
    let path = "components.securitySchemes";
    let Some(named) = document.object(components, "securitySchemes", path)? else {
        return Ok(schemes);
    };
    for (name, value) in named {
        let path = format!("{path}.{}", printable(name, NAME_CAP));
        let value = document.follow(value, &path)?;
        let protection = match value.get("type").and_then(Value::as_str) {
            Some("oauth2") => Protection::OAuth2(flows(document, value, server, &path)?),
            Some("openIdConnect") => {
                let url = url(value, "openIdConnectUrl", server, &path)?;
                let missing = || OpenApiError::member(&path, "openIdConnectUrl is missing");
                Protection::OpenIdConnect(url.ok_or_else(missing)?)
            }
            Some(_) => continue,
            None => return Err(OpenApiError::member(path, "its type is missing")),
        };
        schemes.push(SecurityScheme { name: name.clone(), protection });
    }
    Ok(schemes)
}

fn flows(
    document: &Document<'_>,
    scheme: &Value,
    server: Option<&Server>,
    path: &str,
) -> Result<Vec<Flow>, OpenApiError> {
    let path = format!("{path}.flows");
    let Some(named) = document.object(scheme, "flows", &path)? else {
        return Err(OpenApiError::member(path, "it is missing"));
    };
    let mut flows = Vec::new();
    for kind in KINDS {
        let Some(value) = named.get(kind.as_str()) else { continue };
        let path = format!("{path}.{}", kind.as_str());
        let value = document.follow(value, &path)?;
        let token_url = url(value, "tokenUrl", server, &path)?;
        if token_url.is_none() && kind != FlowKind::Implicit {
            return Err(OpenApiError::member(path, "tokenUrl is missing"));
        }
        let refresh_url = url(value, "refreshUrl", server, &path)?;
        let mut scopes = BTreeMap::new();
        let listed = document.object(value, "scopes", &format!("{path}.scopes"))?;
        for (scope, about) in listed.into_iter().flatten() {
            scopes.insert(scope.clone(), about.as_str().unwrap_or_default().to_owned());
        }
        flows.push(Flow { kind, token_url, refresh_url, scopes });
    }
    Ok(flows)
}

fn url(
    value: &Value,
    name: &str,
    server: Option<&Server>,
    path: &str,
) -> Result<Option<String>, OpenApiError> {
    let text = match value.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => text.trim(),
        Some(_) => return Err(OpenApiError::member(path, format!("{name} is not text"))),
    };
    // OpenAPI 3.1.0: "Relative references are resolved using the URLs defined in the Server Object
    // as a Base URI."
    let resolved = match server {
        _ if text.contains("://") => Some(text.to_owned()),
        Some(server) => server.resolve(text),
        None => None,
    };
    resolved.map(Some).ok_or_else(|| {
        let shown = printable(text, 100);
        OpenApiError::member(path, format!("{name} \"{shown}\" is not an absolute URL"))
    })
}

const KINDS: [FlowKind; 5] = [
    FlowKind::ClientCredentials,
    FlowKind::AuthorizationCode,
    FlowKind::Implicit,
    FlowKind::Password,
    FlowKind::DeviceAuthorization,
];
pub(super) const NAME_CAP: usize = 60;
