//! Configuration from files.
#![cfg(test)]
#![cfg(feature = "config")]

use log_watch as _;

mod documents;
mod grants;
mod mistakes;
mod reload;

use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::Full;
use tower_oauth::{ConfigError, Transport, config::OAuthConfig, testing::AuthorizationServer};

/// Reads TOML.
fn toml(text: &str) -> Result<OAuthConfig, ConfigError> {
    OAuthConfig::from_deserializer(toml::Deserializer::parse(text).expect("it is TOML"))
}

/// To a server in process.
fn transport(server: &AuthorizationServer) -> Transport {
    Transport::new::<_, Full<Bytes>, _>(server.service())
}

/// A file with a secret, removed when it is dropped.
struct SecretFile(PathBuf);

impl SecretFile {
    fn new(name: &str, secret: &str) -> Self {
        let name = format!("tower-oauth-config-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, secret).expect("a temporary file can be written");
        Self(path)
    }

    fn write(&self, secret: &str) {
        std::fs::write(&self.0, secret).expect("a temporary file can be written");
    }

    /// The reference, as TOML.
    fn toml(&self) -> String {
        format!("{{ file = {:?} }}", self.0.to_string_lossy())
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
