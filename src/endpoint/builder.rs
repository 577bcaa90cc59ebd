use std::{fmt, marker::PhantomData, time::Duration};

use super::settings::Settings;
use crate::{
    client_auth::ClientAuth, discovery::EndpointSource, error::ErrorKind, http::Transport,
};

/// Configures a client of one endpoint of an authorization server, `T`.
///
/// Nothing is checked before `build()`.
pub struct EndpointBuilder<T> {
    pub(crate) settings: Settings,
    client: PhantomData<fn() -> T>,
}

impl<T> EndpointBuilder<T> {
    pub(crate) fn new(source: EndpointSource, auth: ClientAuth) -> Self {
        Self { settings: Settings::new(source, auth), client: PhantomData }
    }

    /// Sets how long one exchange with the endpoint may take, connecting and reading included.
    /// Default: 15 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Sets how large an answer may be, after decompression. Default: 1 MiB. One with more than
    /// 10,000 JSON values, or whose values take more than twice the limit in memory, is refused
    /// whatever its size.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.settings.body_limit = bytes;
        self
    }

    /// Says what an error code of this server means, where it is none that the crate knows: a refresh
    /// token that is dead is [`InvalidGrant`](ErrorKind::InvalidGrant), a client that is refused
    /// [`InvalidClient`](ErrorKind::InvalidClient). The case of the code does not count. It may be
    /// repeated. Default: the codes of the standards, and those that GitHub, Slack, Google, Entra and
    /// others send for the same; any other is [`Denied`](ErrorKind::Denied).
    #[must_use]
    pub fn error_code(mut self, code: impl Into<String>, kind: ErrorKind) -> Self {
        self.settings.codes.insert(code.into(), kind);
        self
    }

    /// Sets the HTTP client. Default: with the feature `reqwest` a client of its own; without it,
    /// one has to be set.
    #[must_use]
    pub fn transport(mut self, transport: Transport) -> Self {
        self.settings.transport = Some(transport);
        self
    }

    /// Allows an endpoint that is plain `http` on another machine: everybody on the way can read
    /// the client's secret and the tokens. Default: only on loopback.
    #[must_use]
    pub fn danger_allow_http(mut self) -> Self {
        self.settings.allow_http = true;
        self
    }
}

impl<T> fmt::Debug for EndpointBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the rest: nothing of it has been checked.
        f.debug_struct("EndpointBuilder").field("auth", &self.settings.auth).finish_non_exhaustive()
    }
}
