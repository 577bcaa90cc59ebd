use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use http::HeaderValue;
use tokio::time::Instant;

use super::sharded::this_shard;
#[cfg(feature = "dpop")]
use crate::dpop::{DpopKey, token_hash};
use crate::{
    time::{Moment, nanoseconds_since_1970},
    token::TokenSet,
};

/// From when to when a token is good.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Validity {
    /// When it was obtained, for its age.
    pub(crate) obtained: Instant,
    /// When it expires, less the time a request may be under way.
    pub(crate) expires: Moment,
}

/// A token as requests see it. It is never changed, only replaced; but for the wall time of its end,
/// when the wall clock was set.
pub(crate) struct Entry {
    pub(super) slot: u64,
    epoch: u64,
    /// Until when the wall clock lets it be served: nanoseconds since 1970.
    served_until: AtomicU64,
    validity: Validity,
    headers: Box<[HeaderValue]>,
    token: Arc<TokenSet>,
    /// The token's hash, if it is bound to a key: for its proofs.
    #[cfg(feature = "dpop")]
    hash: Option<Box<str>>,
    /// Asked for on every request, so it is here and not only in the token.
    #[cfg(any(feature = "dpop", feature = "mtls"))]
    bound: bool,
}

impl Entry {
    /// Prepares a token to be published. `headers` are one for each shard, or one for all.
    pub(super) fn new(
        slot: u64,
        epoch: u64,
        token: Arc<TokenSet>,
        validity: Validity,
        headers: Box<[HeaderValue]>,
    ) -> Self {
        Self {
            slot,
            epoch,
            served_until: AtomicU64::new(nanoseconds_since_1970(validity.expires.wall)),
            validity,
            headers,
            #[cfg(feature = "dpop")]
            hash: token.dpop_key().map(|_| token_hash(token.access_token()).into()),
            #[cfg(any(feature = "dpop", feature = "mtls"))]
            bound: token.is_bound(),
            token,
        }
    }

    /// Whether the token is good with a proof only, or over connections with a certificate.
    #[cfg_attr(
        not(any(feature = "dpop", feature = "mtls")),
        expect(clippy::unused_self, reason = "no token is")
    )]
    #[inline]
    pub(crate) fn is_bound(&self) -> bool {
        #[cfg(any(feature = "dpop", feature = "mtls"))]
        return self.bound;
        #[cfg(not(any(feature = "dpop", feature = "mtls")))]
        false
    }

    /// The key that the token is bound to, and the token's hash.
    #[cfg(feature = "dpop")]
    pub(crate) fn binding(&self) -> Option<(&DpopKey, &str)> {
        self.token.dpop_key().zip(self.hash.as_deref())
    }

    /// The token's number in its slot, counted from 1.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the token's time is over when the wall clock shows this many nanoseconds since 1970.
    #[inline]
    pub(super) fn is_over(&self, nanoseconds: u64) -> bool {
        nanoseconds >= self.served_until.load(Ordering::Relaxed)
    }

    /// Sets until when the wall clock lets the token be served: it was set, and another clock knows.
    pub(super) fn serve_until(&self, wall: SystemTime) {
        self.served_until.store(nanoseconds_since_1970(wall), Ordering::Relaxed);
    }

    pub(crate) fn validity(&self) -> Validity {
        self.validity
    }

    pub(crate) fn token(&self) -> &Arc<TokenSet> {
        &self.token
    }

    /// This thread's copy of the header.
    #[inline]
    pub(crate) fn header(&self) -> &HeaderValue {
        let mine = self.headers.get(this_shard()).or_else(|| self.headers.first());
        mine.expect("there is a copy for each shard, or one for all")
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}
