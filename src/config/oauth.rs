use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{ClientConfig, GrantConfig, OAuthClientBuilder, SecretRef, read, text};
use crate::{
    error::ConfigError,
    middleware::{ExistingAuthorization, ForeignOrigin, Origins},
    refresh::TokenHandle,
};

/// Everything that the builders of a grant, of a [`TokenHandle`] and of an
/// [`OAuthLayer`](crate::OAuthLayer) take.
///
/// What is left out has the default of the builders. See the [room](super) for an example.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in a file")]
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct OAuthConfig {
    /// The token endpoint's URL. Either this or [`issuer`](Self::issuer) is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<String>,
    /// The authorization server's issuer, by which its endpoints are
    /// [discovered](crate::Discovery).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Where the token may go: the origins of the APIs. Text or a list.
    #[serde(
        default,
        deserialize_with = "text::list::deserialize",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub origins: Vec<String>,
    /// Scopes: a list, or text with spaces between them. Also `scopes`.
    #[serde(
        default,
        alias = "scopes",
        deserialize_with = "text::scopes::deserialize",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub scope: Vec<String>,
    /// How tokens are obtained. Default: client credentials.
    #[serde(default)]
    pub grant: GrantConfig,
    /// The client. Default: none, for grants whose assertion says enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientConfig>,
    /// How the issuer's metadata is found.
    #[serde(default, skip_serializing_if = "DiscoveryConfig::is_default")]
    pub discovery: DiscoveryConfig,
    /// Where tokens are revoked. Default: what is discovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_endpoint: Option<String>,
    /// The APIs that the token is for, by URI (RFC 8707). Text or a list.
    #[serde(
        default,
        deserialize_with = "text::list::deserialize",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub resource: Vec<String>,
    /// APIs that the token is for, by identifiers that are no URIs, such as the GUIDs of Entra v1 and
    /// AD FS. Text or a list.
    #[serde(
        default,
        deserialize_with = "text::list::deserialize",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub resource_identifier: Vec<String>,
    /// Who the token is for, in the server's words. Text or a list.
    #[serde(
        default,
        deserialize_with = "text::list::deserialize",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub audience: Vec<String>,
    /// Access in detail (RFC 9396): a list of tables, each with a `type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_details: Option<Value>,
    /// Parameters that this server wants besides; not for secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// How long one exchange with the token endpoint may take. Default: 15 s.
    #[serde(default, with = "text::duration", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How large an answer may be, in bytes. Default: 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_limit: Option<u64>,
    /// The longest lifetime that is believed. Default: 365 days.
    #[serde(default, with = "text::duration", skip_serializing_if = "Option::is_none")]
    pub max_lifetime: Option<Duration>,
    /// Refuses answers that break the standards. Default: no.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub strict: bool,
    /// Takes a token without `token_type` for a bearer token. Default: no.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub assume_bearer: bool,
    /// What error codes of this server mean that the crate does not know, such as
    /// `{ no_such_session = "invalid_grant" }`: `invalid_grant` for a refresh token that is dead,
    /// `invalid_client`, `invalid_request`, `denied`, `server` or `throttled`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub error_codes: BTreeMap<String, String>,
    /// Binds tokens to a key (RFC 9449). Feature `dpop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dpop: Option<DpopConfig>,
    /// Refuses whatever is weaker than FAPI 2.0. Default: no.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub fapi2: bool,
    /// Allows an authorization server that is plain `http` on another machine: everybody on the way
    /// can read secrets and tokens.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub danger_allow_http: bool,
    /// How tokens are renewed and waited for.
    #[serde(default, skip_serializing_if = "HandleConfig::is_default")]
    pub handle: HandleConfig,
    /// How tokens are put on requests.
    #[serde(default, skip_serializing_if = "LayerConfig::is_default")]
    pub layer: LayerConfig,
}

impl OAuthConfig {
    /// Reads a configuration of whatever format.
    ///
    /// # Errors
    ///
    /// As [`read`].
    pub fn from_deserializer<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Self, ConfigError> {
        read(deserializer)
    }

    /// Builds the handle and the origins that a layer takes, and starts to obtain tokens. Needs a
    /// tokio runtime. [`builder`](Self::builder) gives what can be reloaded.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for anything that cannot work, a secret that is not there among it.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn build(&self) -> Result<(TokenHandle, Origins), ConfigError> {
        let client = self.builder().build()?;
        Ok((client.tokens().clone(), client.origins().clone()))
    }

    /// Builds a client that can be [reloaded](super::OAuthClient::reload), with what no file can hold,
    /// such as an HTTP client of your own.
    pub fn builder(&self) -> OAuthClientBuilder {
        OAuthClientBuilder::new(self.clone())
    }
}

/// How an issuer's metadata is found. TOML: `[discovery]`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DiscoveryConfig {
    /// Where the metadata is. Default: at the well-known places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_url: Option<String>,
    /// The hosts at which endpoints may be. Default: every public one, and the issuer's.
    #[serde(
        default,
        deserialize_with = "text::list::deserialize",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub hosts: Vec<String>,
    /// How long one search may take. Default: 10 s.
    #[serde(default, with = "text::duration", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// The issuer that the metadata names, if it is another one; see
    /// [`Discovery::danger_expect_issuer`](crate::Discovery::danger_expect_issuer).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub danger_expect_issuer: Option<String>,
}

/// The key that tokens are bound to. TOML: `dpop = {}`, or `[dpop]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DpopConfig {
    /// The key in PEM. Default: one is generated at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem: Option<SecretRef>,
    /// The key as a JWK.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwk: Option<SecretRef>,
    /// What a generated key signs with: `ES256` or `EdDSA`. Default: `ES256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
    /// Takes a bearer token too if the server gives one. Default: no.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub danger_or_bearer: bool,
}

/// Settings of the [`TokenHandle`]. TOML: `[handle]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HandleConfig {
    /// The lifetime of a token that came without one. Default: 1 h.
    #[serde(default, with = "text::duration", skip_serializing_if = "Option::is_none")]
    pub default_lifetime: Option<Duration>,
    /// The part of a token's lifetime that is left when it is renewed: from and to. Default:
    /// `[0.15, 0.25]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<[f64; 2]>,
    /// The longest time before its expiry that a token is renewed. Default: 1 h.
    #[serde(default, with = "text::duration", skip_serializing_if = "Option::is_none")]
    pub max_margin: Option<Duration>,
    /// How long one fetch may take in all. Default: 30 s.
    #[serde(default, with = "text::duration", skip_serializing_if = "Option::is_none")]
    pub fetch_timeout: Option<Duration>,
    /// How long `ready()`, `token()` and a request wait for a token. Default: 30 s.
    #[serde(default, with = "text::duration", skip_serializing_if = "Option::is_none")]
    pub wait: Option<Duration>,
    /// How many callers may wait at once. Default: 10 000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_waiting: Option<u64>,
    /// The shortest time between two renewals because of refusals; doubled, up to 5 min, while
    /// renewals do not help. Default: 1 s.
    #[serde(default, with = "text::duration", skip_serializing_if = "Option::is_none")]
    pub rejection_interval: Option<Duration>,
}

/// Settings of the [`OAuthLayer`](crate::OAuthLayer). TOML: `[layer]`.
///
/// They, and `origins`, are for [`OAuthClient::layer`](super::OAuthClient::layer); [`OAuthConfig::build`] leaves the layer to
/// you.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in a file")]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LayerConfig {
    /// What to do with a request that has an `Authorization` header: `keep`, `replace` or `refuse`.
    /// Default: keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing_authorization: Option<ExistingChoice>,
    /// What to do with a request to another origin: `pass_without_token` or `refuse`. Default: pass
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_origin: Option<ForeignChoice>,
    /// The age at which a token is taken to be dead after a refusal without a reason. Default: 10 s.
    #[serde(default, with = "text::duration", skip_serializing_if = "Option::is_none")]
    pub bare_401_min_age: Option<Duration>,
    /// The statuses that refuse the token besides 401: for servers that answer a dead token with 403
    /// or 419. From 400 to 599. Default: none.
    #[serde(
        default,
        deserialize_with = "text::statuses::deserialize",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub refused_statuses: Vec<u16>,
    /// Obtains scopes that an API says are lacking. Default: no.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub step_up: bool,
    /// Obtains claims that a Microsoft API asks for. Default: no.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub claims_challenges: bool,
    /// Allows origins that are plain `http` on another machine. Default: no.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub danger_allow_http: bool,
    /// Sends the token wherever a request goes, in place of `origins`. Default: no.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub danger_any_origin: bool,
}

/// [`ExistingAuthorization`] in a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExistingChoice {
    /// Keep the header.
    Keep,
    /// Put the token in its place.
    Replace,
    /// Fail.
    Refuse,
}

impl From<ExistingChoice> for ExistingAuthorization {
    fn from(choice: ExistingChoice) -> Self {
        match choice {
            ExistingChoice::Keep => Self::Keep,
            ExistingChoice::Replace => Self::Replace,
            ExistingChoice::Refuse => Self::Refuse,
        }
    }
}

/// [`ForeignOrigin`] in a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ForeignChoice {
    /// Send the request without the token.
    PassWithoutToken,
    /// Fail.
    Refuse,
}

impl From<ForeignChoice> for ForeignOrigin {
    fn from(choice: ForeignChoice) -> Self {
        match choice {
            ForeignChoice::PassWithoutToken => Self::PassWithoutToken,
            ForeignChoice::Refuse => Self::Refuse,
        }
    }
}

impl DiscoveryConfig {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl HandleConfig {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl LayerConfig {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
