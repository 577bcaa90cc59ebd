use std::{fmt, ops::Deref, sync::Arc};

use http::HeaderValue;
#[cfg(feature = "dpop")]
use http::{Method, Uri};

#[cfg(feature = "dpop")]
use crate::{
    dpop::{DpopKey, Proof, ProofUrl, Role},
    error::{Error, ErrorKind},
    time::{Clock, SystemClock},
};
use crate::{slot::Entry, token::TokenSet};

/// A token that is good now, for whatever is not HTTP or not behind the layer: a WebSocket
/// handshake, Kafka, a database.
///
/// Ask for it again each time it is needed; it is renewed behind the handle. The handshake of a
/// WebSocket, for `tokio_tungstenite::connect_async` or any other client that takes a request:
///
/// ```
/// use http::{Request, header};
/// # use tower_oauth::{BoxError, FixedToken, TokenHandle, TokenSet};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let tokens = TokenHandle::spawn(FixedToken::new(TokenSet::bearer("abc")?));
/// let token = tokens.token().await?;
/// let handshake = Request::get("wss://api.example/orders")
///     .header(header::HOST, "api.example")
///     .header(header::CONNECTION, "Upgrade")
///     .header(header::UPGRADE, "websocket")
///     .header(header::SEC_WEBSOCKET_VERSION, "13")
///     .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==") // a new one each time
///     .header(header::AUTHORIZATION, token.header_value())
///     .body(())?;
/// // If the server answers 401: `tokens.reject(token.epoch())`, and once more.
/// # let _ = handshake;
/// # Ok(())
/// # }
/// ```
///
/// A connection outlives the token that opened it. If the server closes it at the token's end, open
/// another one with the token of that moment.
#[derive(Clone)]
pub struct Token(pub(crate) Arc<Entry>);

impl Token {
    /// Whether the token is good with a proof only.
    pub(crate) fn is_bound(&self) -> bool {
        self.0.is_bound()
    }

    /// The token's number, for [`TokenHandle::reject`](super::TokenHandle::reject).
    pub fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    /// The value of the `Authorization` header, marked sensitive.
    pub fn header_value(&self) -> HeaderValue {
        self.0.header().clone()
    }
}

#[cfg(feature = "dpop")]
impl Token {
    /// Signs a proof for a request that is not sent through the layer, such as a WebSocket
    /// handshake: the value of its `DPoP` header ([RFC 9449 §4.2]). `None` if the token is not bound
    /// to a key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Origin`] when the URI is not absolute; [`ErrorKind::Credential`] when the
    /// cryptographic library fails.
    ///
    /// [RFC 9449 §4.2]: https://www.rfc-editor.org/rfc/rfc9449#section-4.2
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    pub fn dpop_proof(&self, method: &Method, uri: &Uri) -> Result<Option<HeaderValue>, Error> {
        let Some((key, hash)) = self.binding() else { return Ok(None) };
        let Some(url) = ProofUrl::of_uri(uri) else {
            return Err(Error::new(ErrorKind::Origin, "a proof needs an absolute URI"));
        };
        let now = SystemClock::new().coarse_wall();
        let proof = Proof { method, url, now, token_hash: Some(hash) };
        key.prove(&proof, &key.server(Role::Resource, url)).map(Some)
    }

    /// The key that the token is bound to, and what proofs of it say of the token.
    pub(crate) fn binding(&self) -> Option<(&DpopKey, &str)> {
        self.0.binding()
    }
}

impl Deref for Token {
    type Target = TokenSet;

    fn deref(&self) -> &TokenSet {
        self.0.token()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("epoch", &self.epoch()).field("set", &**self).finish()
    }
}
