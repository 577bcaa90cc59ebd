use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::{OAuthClient, OAuthConfig, read};
use crate::error::ConfigError;

/// Several clients of one configuration, each with a name.
///
/// ```
/// use tower_oauth::config::Clients;
///
/// let text = r#"
///     [orders]
///     issuer = "https://idp.example"
///     origins = "https://orders.example"
///     client = { id = "shop", secret = { env = "ORDERS_SECRET" } }
///
///     [stock]
///     token_endpoint = "https://partner.example/token"
///     origins = "https://stock.example"
///     client = { id = "4711", secret = { env = "STOCK_SECRET" } }
/// "#;
/// let clients = Clients::from_deserializer(toml::Deserializer::parse(text)?)?;
/// assert!(clients.get("orders").is_some());
/// # Ok::<(), tower_oauth::BoxError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Clients(pub BTreeMap<String, OAuthConfig>);

impl Clients {
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

    /// The configuration of one client.
    pub fn get(&self, name: &str) -> Option<&OAuthConfig> {
        self.0.get(name)
    }

    /// Builds all clients, or none. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Client`], with the name of the client that cannot work.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn build(&self) -> Result<BTreeMap<String, OAuthClient>, ConfigError> {
        let prepare = |(name, config): (&String, &OAuthConfig)| {
            Ok((name.clone(), config.builder().name(name).prepare()?))
        };
        let prepared: Vec<_> = self.0.iter().map(prepare).collect::<Result<_, _>>()?;
        Ok(prepared.into_iter().map(|(name, client)| (name, client.start())).collect())
    }
}
