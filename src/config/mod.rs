//! Everything the builders take, read from a configuration file.
//!
//! The format is yours: TOML, JSON, YAML, environment variables, anything that serde reads. Unknown
//! keys are refused, durations are text, secrets are referred to and never written, and whatever is
//! wrong gets one error that names its place.
//!
//! ```
//! use tower_oauth::{CloneRequest, OAuthLayer, config::OAuthConfig};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_oauth::BoxError> {
//! let text = r#"
//!     token_endpoint = "https://idp.example/oauth2/token"
//!     scope = "orders.read orders.write"
//!     origins = ["https://api.example"]
//!     timeout = "5s"
//!
//!     [client]
//!     id = "orders"
//!     secret = { file = "/run/secrets/orders" }
//! "#;
//! # let file = std::env::temp_dir().join(format!("tower-oauth-doc-{}", std::process::id()));
//! # std::fs::write(&file, "gX1fBat3bV")?;
//! # let text = &text.replace("/run/secrets/orders", &file.to_string_lossy());
//! let config = OAuthConfig::from_deserializer(toml::Deserializer::parse(text)?)?;
//! # #[cfg(feature = "reqwest")] {
//! let (tokens, origins) = config.build()?;
//! let layer = OAuthLayer::new(tokens, origins).replay(CloneRequest);
//! # }
//! # Ok(())
//! # }
//! ```
//!
//! [`read`] reads types of your own in which an [`OAuthConfig`] stands; [`Clients`] is a file of
//! several.
//!
//! # Changing it while it runs
//!
//! A secret that is referred to may be replaced at any time: it is read for every token request.
//! Everything else about how tokens are obtained can be [reloaded](OAuthClient::reload): the current
//! token serves until the new credentials have given one, and if they give none, nothing has
//! changed.
//!
//! ```
//! # use tower_oauth::config::{OAuthClient, OAuthConfig};
//! # fn load() -> Result<OAuthConfig, tower_oauth::BoxError> { Ok(OAuthConfig::default()) }
//! # async fn changed() {}
//! # async fn example() -> Result<(), tower_oauth::BoxError> {
//! let client = load()?.builder().build()?;
//! let layer = client.layer(); // for every service that calls the API
//!
//! loop {
//!     changed().await;
//!     if let Err(error) = client.reload(&load()?).await {
//!         eprintln!("the old configuration stays in use: {error}");
//!     }
//! }
//! # }
//! ```

mod build;
mod client;
mod clients;
mod debug;
mod grant;
#[cfg(any(feature = "dpop", feature = "private-key-jwt"))]
mod keys;
mod node;
mod oauth;
mod reader;
mod running;
mod secret;
mod text;

pub use client::{
    AssertionConfig, CertificateConfig, ClientConfig, ClientMethod, KeyConfig, Methods,
};
pub use clients::Clients;
pub use grant::{
    AssertionGrantConfig, FileTokenConfig, GrantConfig, RefreshTokenConfig, TokenExchangeConfig,
};
pub use oauth::{
    DiscoveryConfig, DpopConfig, ExistingChoice, ForeignChoice, HandleConfig, LayerConfig,
    OAuthConfig,
};
pub use running::{OAuthClient, OAuthClientBuilder, ReloadError};
pub use secret::SecretRef;

use serde::{Deserialize, Deserializer};

use crate::error::ConfigError;
use node::Node;

/// Reads a configuration, of a type of your own or of ours, with whatever deserializer your loader
/// gives.
///
/// It does what deserializing directly does not: the error names the place of what is wrong, such as
/// `clients.orders.timeout`, and shows neither a value nor the line that it stands in; a key that is
/// there twice is refused; and numbers, `true` and `false` may be text, as they are in an
/// environment.
///
/// # Errors
///
/// [`ConfigError::Document`].
///
/// ```
/// use serde::Deserialize;
/// use tower_oauth::config::{OAuthConfig, read};
///
/// #[derive(Debug, Deserialize)]
/// struct Settings {
///     listen: String,
///     orders: OAuthConfig,
/// }
///
/// let text = r#"
///     listen = "127.0.0.1:8080"
///     [orders]
///     issuer = "https://idp.example"
///     client = { id = "orders", secret = "hunter2" }
/// "#;
/// let error = read::<Settings, _>(toml::Deserializer::parse(text)?).unwrap_err().to_string();
/// assert!(error.starts_with("orders.client.secret: "));
/// assert!(!error.contains("hunter2"));
/// # Ok::<(), tower_oauth::BoxError>(())
/// ```
pub fn read<'de, T, D>(deserializer: D) -> Result<T, ConfigError>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let at = |path: String, reason: String| ConfigError::Document { path, reason };
    let node = Node::deserialize(deserializer)
        .map_err(|error| at(String::new(), node::Fault::of_format(&error).to_string()))?;
    serde_path_to_error::deserialize(node).map_err(|error| {
        let path = error.path().to_string();
        // A lone dot is the whole document.
        let path = if path == "." { String::new() } else { path };
        at(path, error.into_inner().to_string())
    })
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it")]
fn is_false(value: &bool) -> bool {
    !value
}
