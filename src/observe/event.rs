use std::{fmt, time::Duration};

use crate::error::Error;

/// Why a token is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FetchReason {
    /// There has been no token yet.
    Initial,
    /// The refresh point of the current token has come; it is still served.
    Due,
    /// The current token has expired.
    Expired,
    /// A server refused the current token.
    Rejected,
    /// [`TokenHandle::refresh`](crate::TokenHandle::refresh) was called.
    Requested,
    /// An API asked for more than the current token has.
    StepUp,
    /// It was not fetched: somebody else had obtained it, and the source heard of that.
    Renewed,
}

impl FetchReason {
    /// A stable name, as used in events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Due => "due",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::Requested => "requested",
            Self::StepUp => "step_up",
            Self::Renewed => "renewed",
        }
    }
}

impl fmt::Display for FetchReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a request was sent without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PassReason {
    /// It goes to an origin that the layer was not given.
    ForeignOrigin,
    /// It has an `Authorization` header of the caller's, which the layer keeps.
    AuthorizationPresent,
    /// Its method is `TRACE` or `CONNECT`, which never carry a token.
    Method,
    /// It names no tenant.
    NoKey,
}

impl PassReason {
    /// Returns a stable name, as used in events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ForeignOrigin => "foreign_origin",
            Self::AuthorizationPresent => "authorization_present",
            Self::Method => "method",
            Self::NoKey => "no_key",
        }
    }
}

impl fmt::Display for PassReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a request goes or a response comes from: never a path, a query or user information.
///
/// `Display` writes it as in a URL: `https://api.example:8443`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EventOrigin<'a> {
    /// The scheme, if the target names one.
    pub scheme: Option<&'a str>,
    /// The host.
    pub host: &'a str,
    /// The port, if the target names one.
    pub port: Option<u16>,
}

impl fmt::Display for EventOrigin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = self.scheme {
            write!(f, "{scheme}://")?;
        }
        f.write_str(self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Something that happened to a token or to a request that needed one.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A token is being fetched.
    Fetching {
        /// Why.
        reason: FetchReason,
    },
    /// A token was obtained and is now served.
    Obtained {
        /// The token's number. Each token of a handle has a higher one; one that a source gives
        /// again keeps its own.
        epoch: u64,
        /// Why it was fetched.
        reason: FetchReason,
        /// How long it lives in all, from when it was asked for.
        lifetime: Duration,
        /// How long it is served from now: less than its lifetime, as it took time to arrive, and
        /// one that comes from a store has been used before.
        expires_in: Duration,
        /// How long the fetch took.
        took: Duration,
    },
    /// A fetch failed.
    Failed {
        /// Why it was fetched.
        reason: FetchReason,
        /// What went wrong.
        error: &'a Error,
        /// How many fetches have failed in a row.
        failures: u32,
        /// When the next attempt is made.
        retry_in: Duration,
        /// Whether a usable token is still served.
        holds_token: bool,
        /// How long the fetch took.
        took: Duration,
    },
    /// The current token expired before another one was obtained.
    Expired {
        /// The token's number.
        epoch: u64,
    },
    /// A server refused a token, and it was taken out of service.
    Rejected {
        /// The token's number.
        epoch: u64,
    },
    /// A server refused a token, and the last renewal after a refusal may not have helped. The token
    /// stays in service while another one is fetched: it may be good for other requests.
    Renewing {
        /// The token's number.
        epoch: u64,
    },
    /// A request has to wait for a token.
    Waiting,
    /// The wait of a request is over: it has a token, an error, or was dropped.
    Waited {
        /// How long it was.
        waited: Duration,
        /// Whether it got one.
        obtained: bool,
    },
    /// A request was sent again with a newer token.
    Replayed {
        /// The status of the second answer, which is returned as it is.
        status: u16,
    },
    /// A request that was refused was sent again, and the second attempt failed. The caller gets the
    /// refusal, unless the layer had to [drop](crate::docs::reliability) it before.
    ReplayFailed,
    /// A request was sent without a token.
    PassedWithoutToken {
        /// Why.
        reason: PassReason,
        /// Where it goes, if it names a server.
        origin: Option<EventOrigin<'a>>,
    },
    /// A client below the layer followed a redirect to another origin: the token, or the DPoP proof,
    /// may have gone there. See [the order of layers](crate::docs::layer_order).
    RedirectFollowed {
        /// Where the response came from.
        origin: EventOrigin<'a>,
        /// Whether it is the first redirect that this layer has seen. `tracing` warns of that one
        /// only.
        first: bool,
    },
    /// The right to renew a stored token was waited for: other processes have it in turn.
    Leased {
        /// How long.
        waited: Duration,
        /// Whether it was had.
        obtained: bool,
    },
    /// A token that another process obtained was taken from the store, without a token request.
    Adopted {
        /// The generation of the stored record.
        generation: u64,
    },
    /// A token is in the store.
    Saved {
        /// The generation of the stored record.
        generation: u64,
    },
    /// A token could not be stored. It is served from memory, and would be lost if the process ended
    /// now; it is stored as soon as that works again.
    NotSaved {
        /// The generation of the record that is only in memory.
        generation: u64,
        /// What went wrong.
        error: &'a Error,
    },
    /// A stored record is not for this client, or cannot be read. It is not used.
    RecordIgnored {
        /// What is wrong with it, such as `issuer` when that is another one.
        what: &'static str,
    },
    /// The store failed, without anything being lost.
    StoreFailed {
        /// What went wrong.
        error: &'a Error,
    },
    /// Tokens that others obtain are not heard of until after the next fetch, because the source
    /// panicked while it listened, or gave one that cannot be used. They are found when the current
    /// one is due.
    NotListening {
        /// What went wrong.
        error: &'a Error,
    },
    /// The answer to an earlier token request was lost, perhaps in another process. The same
    /// refresh token is sent again.
    Resending {
        /// The generation of the stored record.
        generation: u64,
    },
    /// The grant has ended. That is marked in the store, and somebody has to give access again.
    Ended {
        /// The generation of the stored record.
        generation: u64,
    },
    /// The refresher has ended.
    Stopped,
}

/// Is told every [`Event`].
///
/// It is called from the refresher and from requests that wait: it must not block. A panic in it is
/// caught and ignored.
pub trait Observer: Send + Sync + 'static {
    /// Takes note of an event.
    fn event(&self, event: &Event<'_>);
}

impl<F> Observer for F
where
    F: Fn(&Event<'_>) + Send + Sync + 'static,
{
    fn event(&self, event: &Event<'_>) {
        self(event);
    }
}
