use std::{fmt, ops::Deref, sync::Arc};

use http::HeaderValue;

use crate::{slot::Entry, token::TokenSet};

/// A token that is good now, for whatever is not HTTP or not behind the layer: a WebSocket
/// handshake, Kafka, a database.
///
/// Ask for it again each time it is needed; it is renewed behind the handle.
#[derive(Clone)]
pub struct Token(pub(crate) Arc<Entry>);

impl Token {
    /// The token's number, for [`TokenHandle::reject`](super::TokenHandle::reject).
    pub fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    /// The value of the `Authorization` header, marked sensitive.
    pub fn header_value(&self) -> HeaderValue {
        self.0.header().clone()
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
