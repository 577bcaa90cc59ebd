use std::{fmt, time::Duration};

use redis::{Client, ConnectionAddr, TlsCertificates};

use super::store::{RedisStore, Settings};
use crate::{
    error::ConfigError,
    http::{is_loopback, shown_url},
    secret::Secret,
};

use super::super::KeyRing;

/// Settings of a [`RedisStore`].
#[must_use]
pub struct RedisStoreBuilder {
    url: Secret,
    keys: KeyRing,
    prefix: String,
    lease: Duration,
    root_certificate: Option<Vec<u8>>,
    allow_plaintext: bool,
}

impl RedisStoreBuilder {
    pub(super) fn new(url: Secret, keys: KeyRing) -> Self {
        Self {
            url,
            keys,
            prefix: "tower-oauth".to_owned(),
            lease: LEASE,
            root_certificate: None,
            allow_plaintext: false,
        }
    }

    /// What the names of all keys in Redis begin with, and a part of what records are bound to: two
    /// stores with different prefixes do not see each other's tokens. Default: `tower-oauth`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long a process that renews a token keeps the others out, if it never comes back. A token
    /// request is given up a second before the lease ends. Default: 30 s; at least 3 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Trusts this certificate, in PEM, instead of those that the system trusts.
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificate = Some(pem.into());
        self
    }

    /// Allows a connection without TLS to another machine: everybody on the way can read the
    /// password, and put old records in the place of new ones. Default: only on loopback.
    pub fn danger_allow_plaintext(mut self) -> Self {
        self.allow_plaintext = true;
        self
    }

    /// Checks the settings. No connection is made before it is needed.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a URL that cannot be used, or that leads to another machine without TLS,
    /// and for a lease that is too short.
    pub fn build(self) -> Result<RedisStore, ConfigError> {
        let bad = |reason| {
            Err(ConfigError::Url { what: "Redis", value: shown_url(self.url.expose()), reason })
        };
        if self.lease < MIN_LEASE {
            let (name, value) = ("lease", format!("{:?}", self.lease));
            let reason = "it has to last for a token request and a second: give it 3 s or more";
            return Err(ConfigError::Setting { name, value, reason });
        }
        // Before the client is made, which asks for one.
        install_crypto();
        let url = self.url.expose();
        let client = match self.root_certificate {
            None => Client::open(url),
            Some(pem) => {
                let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
                Client::build_with_tls(url, certificates)
            }
        };
        // Not the error: it may show the URL, with its password.
        let Ok(client) = client else {
            return bad("it is no URL of a Redis server, such as rediss://user:password@host:6379");
        };
        match client.get_connection_info().addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return bad("it turns the check of the server's certificate off");
            }
            ConnectionAddr::TcpTls { .. } | ConnectionAddr::Unix(_) => {}
            ConnectionAddr::Tcp(host, _) if self.allow_plaintext || is_loopback(host) => {}
            _ => return bad("it must be rediss, or redis on a loopback address"),
        }
        let settings = Settings { keys: self.keys, prefix: self.prefix, lease: self.lease };
        Ok(RedisStore::with(client, settings))
    }
}

/// The Redis client takes the process' cryptography and panics if there is none.
fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // If another thread was faster, theirs is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreBuilder")
            .field("keys", &self.keys)
            .field("prefix", &self.prefix)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

const LEASE: Duration = Duration::from_secs(30);
const MIN_LEASE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    fn build(url: &str) -> Result<RedisStore, ConfigError> {
        RedisStore::builder(url, KeyRing::new("k", "x").unwrap()).build()
    }

    #[test]
    fn f60_redis_without_tls_is_for_loopback_only() {
        for good in [
            "rediss://cache.example:6379",
            "rediss://user:hunter2@cache.example/0",
            "redis://127.0.0.1:6379",
            "redis://localhost",
            "redis://[::1]:6379",
            "unix:///run/redis.sock",
        ] {
            build(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for bad in
            ["redis://cache.example:6379", "rediss://cache.example/#insecure", "http://a", ""]
        {
            assert!(build(bad).is_err(), "{bad}");
        }
        let ring = KeyRing::new("k", "x").unwrap();
        let allowed = RedisStore::builder("redis://10.0.0.1", ring).danger_allow_plaintext();
        assert!(allowed.build().is_ok());
    }

    #[test]
    fn a_password_is_not_shown() {
        let error = build("redis://user:hunter2@cache.example").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        let ring = KeyRing::new("k", "x").unwrap();
        let builder = RedisStore::builder("rediss://user:hunter2@cache.example", ring);
        assert!(!format!("{builder:?}").contains("hunter2"));
        assert!(!format!("{:?}", builder.build().unwrap()).contains("hunter2"));
    }

    #[test]
    fn a_lease_lasts_for_a_token_request() {
        let builder = RedisStore::builder("redis://localhost", KeyRing::new("k", "x").unwrap());
        assert!(builder.lease(Duration::from_millis(2999)).build().is_err());
    }
}
