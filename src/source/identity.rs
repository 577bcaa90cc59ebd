use std::{collections::BTreeSet, fmt, sync::Arc};

use super::TokenSource;
#[cfg(feature = "dpop")]
use crate::dpop::DpopKey;
use crate::{secret::SecretSource, token::Scopes};

/// What tells the tokens of one source from those of another.
///
/// A store keeps one record for each identity: what differs in any of its parts is never mixed up.
/// Grants tell theirs by themselves ([`Identified`]); a source of your own is given one with
/// [`Persisted::identified`](crate::store::Persisted::identified).
///
/// ```
/// use tower_oauth::source::Identity;
///
/// let identity = Identity::new("https://idp.example/token", "orders").subject("alice").rotating();
/// # let _ = identity;
/// ```
#[derive(Clone)]
pub struct Identity {
    pub(crate) token_endpoint: String,
    pub(crate) client_id: String,
    pub(crate) scopes: Scopes,
    /// All other parameters of the token request that are no secrets. Sorted: their order means
    /// nothing.
    pub(crate) parameters: BTreeSet<(String, String)>,
    /// The name of whoever the tokens stand for.
    pub(crate) subject: Option<String>,
    /// What the subject gave, or is told by.
    pub(crate) credentials: Vec<SecretSource>,
    pub(crate) key_thumbprint: Option<String>,
    #[cfg(feature = "dpop")]
    pub(crate) dpop_key: Option<DpopKey>,
    pub(crate) rotates: bool,
}

impl Identity {
    /// Tokens of a client, from the token endpoint (or the issuer) with this URL.
    pub fn new(token_endpoint: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self {
            token_endpoint: token_endpoint.into(),
            client_id: client_id.into(),
            scopes: Scopes::default(),
            parameters: BTreeSet::new(),
            subject: None,
            credentials: Vec::new(),
            key_thumbprint: None,
            #[cfg(feature = "dpop")]
            dpop_key: None,
            rotates: false,
        }
    }

    /// Sets the scopes that are asked for. Default: none.
    #[must_use]
    pub fn scopes(mut self, scopes: Scopes) -> Self {
        self.scopes = scopes;
        self
    }

    /// Adds a parameter that has a say in what token is issued, such as `grant_type`, `resource` or
    /// `audience`. It may be repeated.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.insert((name.into(), value.into()));
        self
    }

    /// Adds a credential that stands for the subject, such as the refresh token that somebody was
    /// given first. Its digest becomes a part of the identity: another credential, another record.
    #[must_use]
    pub fn credential(mut self, credential: impl Into<SecretSource>) -> Self {
        self.credentials.push(credential.into());
        self
    }

    /// Names whose tokens these are, in place of the credentials' digests. Names of different users
    /// must differ.
    #[must_use]
    pub fn subject(mut self, name: impl Into<String>) -> Self {
        self.subject = Some(name.into());
        self
    }

    /// Sets the thumbprint of the key that the tokens are bound to ([RFC 7638]). Default: none.
    ///
    /// [RFC 7638]: https://www.rfc-editor.org/rfc/rfc7638
    #[must_use]
    pub fn key_thumbprint(mut self, thumbprint: impl Into<String>) -> Self {
        self.key_thumbprint = Some(thumbprint.into());
        self
    }

    /// Sets the key that the tokens are bound to ([RFC 9449]), and its thumbprint. A key that is
    /// made anew by each process gives each a record of its own.
    ///
    /// [RFC 9449]: https://www.rfc-editor.org/rfc/rfc9449
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    #[must_use]
    pub fn dpop_key(mut self, key: DpopKey) -> Self {
        self.key_thumbprint = Some(key.thumbprint().to_owned());
        self.dpop_key = Some(key);
        self
    }

    /// Says that a fetch may spend the refresh token it is given, so that nobody else may use it at
    /// the same time. Default: it does not.
    #[must_use]
    pub fn rotating(mut self) -> Self {
        self.rotates = true;
        self
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the endpoint's query or the parameters: some servers want keys there.
        f.debug_struct("Identity")
            .field("client_id", &self.client_id)
            .field("scopes", &self.scopes)
            .field("key_thumbprint", &self.key_thumbprint)
            .field("rotates", &self.rotates)
            .finish_non_exhaustive()
    }
}

/// A source that knows what its tokens are for, so that they can be kept in a store. All grants
/// are.
pub trait Identified: TokenSource {
    /// The identity of the tokens it obtains.
    fn identity(&self) -> Identity;
}

impl<T: Identified> Identified for Arc<T> {
    fn identity(&self) -> Identity {
        T::identity(self)
    }
}
