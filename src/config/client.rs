use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IntoDeserializer, SeqAccess, Visitor},
};

use super::{SecretRef, text};

/// The client, and how it authenticates. TOML: `[client]`.
///
/// Without a [`method`](Self::method), a key or a certificate is used if there is one, and a secret
/// as the server's metadata says, or by `client_secret_basic`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The client's id.
    pub id: String,
    /// The client's secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
    /// How the client authenticates. With several, the first that the server's metadata lists.
    #[serde(default, skip_serializing_if = "Methods::is_empty")]
    pub method: Methods,
    /// The key of `private_key_jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyConfig>,
    /// The certificate of `tls_client_auth`. It is presented to the token endpoint, whatever the
    /// method is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateConfig>,
    /// Settings of `private_key_jwt` and `client_secret_jwt`.
    #[serde(default, skip_serializing_if = "AssertionConfig::is_default")]
    pub assertion: AssertionConfig,
}

impl ClientConfig {
    /// A client with this id.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), ..Self::default() }
    }

    /// Sets the secret.
    #[must_use]
    pub fn secret(mut self, secret: SecretRef) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Sets the method of authentication.
    #[must_use]
    pub fn method(mut self, method: ClientMethod) -> Self {
        self.method = Methods(vec![method]);
        self
    }
}

/// A method of client authentication, by its [registered name].
///
/// [registered name]: https://www.iana.org/assignments/oauth-parameters/oauth-parameters.xhtml#token-endpoint-auth-method
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClientMethod {
    /// A secret, in the header or in the body as the server's metadata says; not a registered name.
    ClientSecret,
    /// Id and secret in the `Authorization` header.
    ClientSecretBasic,
    /// The same without form encoding, for servers that do not decode; not a registered name.
    ClientSecretBasicUnencoded,
    /// Id and secret in the body.
    ClientSecretPost,
    /// An assertion, signed with the secret. Feature `private-key-jwt`.
    ClientSecretJwt,
    /// An assertion, signed with the key. Feature `private-key-jwt`.
    PrivateKeyJwt,
    /// The certificate, signed by an authority. Feature `mtls`.
    TlsClientAuth,
    /// The certificate, signed by the client itself. Feature `mtls`.
    SelfSignedTlsClientAuth,
    /// None: a public client.
    None,
}

/// Methods of client authentication: one name, or a list of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Methods(pub Vec<ClientMethod>);

impl Methods {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Methods {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &*self.0 {
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Methods {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MethodsVisitor)
    }
}

struct MethodsVisitor;

impl<'de> Visitor<'de> for MethodsVisitor {
    type Value = Methods;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a method of client authentication, or a list of them")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Methods, E> {
        ClientMethod::deserialize(name.into_deserializer()).map(|method| Methods(vec![method]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Methods, A::Error> {
        let mut methods = Vec::new();
        while let Some(method) = items.next_element()? {
            methods.push(method);
        }
        Ok(Methods(methods))
    }
}

/// A private key: `{ pem = { file = … }, algorithm = "ES256" }`, or `{ jwk = { file = … } }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct KeyConfig {
    /// The key in PEM. It needs an [`algorithm`](Self::algorithm).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem: Option<SecretRef>,
    /// The key as a JWK.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwk: Option<SecretRef>,
    /// What a key in PEM signs with: `RS256`, `PS256`, `ES256`, `ES384` or `EdDSA`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
    /// The key's id, `kid`. Default: the JWK's own, none for PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
}

/// A certificate in PEM and its private key; in one file, or in two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CertificateConfig {
    /// The chain of certificates, the client's own first; with its key, if [`key`](Self::key) is
    /// not set.
    pub chain: SecretRef,
    /// The private key. Default: it stands beside the certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretRef>,
}

/// How an assertion of the client about itself looks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AssertionConfig {
    /// The server's issuer, which the assertion is for. Default: the issuer that is discovered;
    /// needed with a `token_endpoint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// The token endpoint's URL, for servers that accept nothing else as audience.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legacy_audience: Option<String>,
    /// The `typ` header: `client-authentication+jwt`, `JWT`, or empty for none. Default: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typ: Option<String>,
    /// How long it lives. Default: 1 min; at most 5 min.
    #[serde(default, with = "text::duration", skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Duration>,
}

impl AssertionConfig {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
