use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{SecretRef, text};

/// How tokens are obtained: a name, or a table with one key.
///
/// ```toml
/// grant = "client_credentials" # the default
/// grant = { refresh_token = { token = { file = "/run/secrets/refresh-token" } } }
/// grant = { jwt_bearer = { assertion = { file = "/var/run/secrets/assertion" } } }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GrantConfig {
    /// [`ClientCredentials`](crate::ClientCredentials).
    #[default]
    ClientCredentials,
    /// [`RefreshToken`](crate::RefreshToken).
    RefreshToken(RefreshTokenConfig),
    /// [`JwtBearer`](crate::JwtBearer).
    JwtBearer(AssertionGrantConfig),
    /// [`Saml2Bearer`](crate::Saml2Bearer).
    Saml2Bearer(AssertionGrantConfig),
    /// [`TokenExchange`](crate::TokenExchange).
    TokenExchange(TokenExchangeConfig),
    /// [`FileToken`](crate::FileToken).
    FileToken(FileTokenConfig),
}

/// Settings of [`GrantConfig::RefreshToken`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RefreshTokenConfig {
    /// The refresh token to begin with.
    pub token: SecretRef,
    /// The scopes that were granted, if they are known: others are refused at once.
    #[serde(
        default,
        deserialize_with = "text::scopes::deserialize",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub granted_scope: Vec<String>,
}

impl RefreshTokenConfig {
    /// Begins with this refresh token.
    pub fn new(token: SecretRef) -> Self {
        Self { token, granted_scope: Vec::new() }
    }
}

/// Settings of [`GrantConfig::JwtBearer`] and [`GrantConfig::Saml2Bearer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AssertionGrantConfig {
    /// The assertion: a JWT, or SAML 2.0 as XML.
    pub assertion: SecretRef,
}

impl AssertionGrantConfig {
    /// Trades this assertion.
    pub fn new(assertion: SecretRef) -> Self {
        Self { assertion }
    }
}

/// Settings of [`GrantConfig::TokenExchange`].
///
/// A token's type is a URI, or one of `access_token`, `id_token`, `jwt` and `saml2` for the URIs of
/// [RFC 8693 §3](https://www.rfc-editor.org/rfc/rfc8693#section-3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TokenExchangeConfig {
    /// The token that is exchanged.
    pub subject_token: SecretRef,
    /// Its type.
    pub subject_token_type: String,
    /// The token of the party that acts for the subject. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor_token: Option<SecretRef>,
    /// Its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor_token_type: Option<String>,
    /// The type of token that is asked for. Default: the server decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_token_type: Option<String>,
    /// Takes a token without `issued_token_type` for an access token. Default: no.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub assume_access_token: bool,
}

impl TokenExchangeConfig {
    /// Exchanges this token, of this type.
    pub fn new(subject_token: SecretRef, subject_token_type: impl Into<String>) -> Self {
        Self {
            subject_token,
            subject_token_type: subject_token_type.into(),
            actor_token: None,
            actor_token_type: None,
            requested_token_type: None,
            assume_access_token: false,
        }
    }
}

/// Settings of [`GrantConfig::FileToken`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FileTokenConfig {
    /// The file with the token. It may come later.
    pub path: PathBuf,
    /// How long a token lives that does not tell itself. Default: 1 min.
    #[serde(default, with = "text::duration", skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Duration>,
}

impl FileTokenConfig {
    /// Reads this file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), lifetime: None }
    }
}
