use std::fmt;

/// What kind of failure an [`Error`](crate::Error) is, for matching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The authorization server could not be reached, or the connection broke.
    Transport,
    /// Something took longer than its bound: the token request, or the wait for a token.
    Timeout,
    /// The authorization server asked for fewer requests (429, `Retry-After`, `slow_down`).
    Throttled,
    /// The authorization server, or a proxy before it, failed (5xx, `server_error`,
    /// `temporarily_unavailable`; a 401, 403 or 404 with a page, or with a text of a proxy's own).
    Server,
    /// The authorization server does not accept the client's credentials (`invalid_client`,
    /// `unauthorized_client`, an empty 401).
    InvalidClient,
    /// The grant has ended (`invalid_grant`, or what the server calls it): the refresh token or
    /// assertion is expired, revoked or already spent, or the user has to log in again.
    InvalidGrant,
    /// The authorization server refuses the request as it is configured (`invalid_request`,
    /// `invalid_scope`, `invalid_target`, `unsupported_grant_type`, a wrong URL).
    InvalidRequest,
    /// The authorization server refuses with any other OAuth error code, or a bare 4xx.
    Denied,
    /// The answer was not a token response: too large, not JSON, members missing or repeated. A new
    /// refresh token in it is kept all the same, unless it is itself broken or the answer is larger
    /// than allowed, so that it was not read to its end.
    MalformedResponse,
    /// The answer held a token that cannot be used: an unknown token type, or characters that do
    /// not belong in a header. A new refresh token in it is kept all the same.
    UnusableToken,
    /// What the authorization server supports and what is configured do not fit together, such as
    /// a way of client authentication that it does not have.
    Configuration,
    /// The authorization server's metadata cannot be had or trusted: another issuer, or a URL that
    /// is not allowed.
    Discovery,
    /// The authorization server cannot revoke tokens of this kind (`unsupported_token_type`).
    UnsupportedTokenType,
    /// A credential could not be read from its file, variable or provider.
    Credential,
    /// A token store failed.
    Store,
    /// A user's own [`TokenSource`](crate::TokenSource) failed.
    Source,
    /// Code that is not this crate's panicked while a token was fetched: a user's own, or the HTTP
    /// client with a log line that could not be written.
    Panic,
    /// The request goes to an origin that was not allowed, and the layer refuses such requests.
    Origin,
    /// The request already has an `Authorization` header, and the layer refuses such requests.
    AuthorizationPresent,
    /// The request names no tenant, and the layer refuses such requests.
    NoKey,
    /// More requests wait for a token than allowed, or more tenants are in use.
    Overloaded,
    /// The refresher has ended: `shutdown()` was called, or its runtime is gone.
    Shutdown,
}

impl ErrorKind {
    /// Whether the same request can succeed later without anybody's help.
    ///
    /// Kinds that are not retryable still do not end the refresher: it tries again slowly.
    pub fn is_retryable(self) -> bool {
        !matches!(
            self,
            Self::InvalidClient
                | Self::InvalidGrant
                | Self::InvalidRequest
                | Self::Denied
                | Self::Configuration
                | Self::Discovery
                | Self::UnsupportedTokenType
                | Self::Origin
                | Self::AuthorizationPresent
                | Self::NoKey
                | Self::Shutdown
        )
    }

    /// A stable name, as used in events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transport => "transport",
            Self::Timeout => "timeout",
            Self::Throttled => "throttled",
            Self::Server => "server",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidRequest => "invalid_request",
            Self::Denied => "denied",
            Self::MalformedResponse => "malformed_response",
            Self::UnusableToken => "unusable_token",
            Self::Configuration => "configuration",
            Self::Discovery => "discovery",
            Self::UnsupportedTokenType => "unsupported_token_type",
            Self::Credential => "credential",
            Self::Store => "store",
            Self::Source => "source",
            Self::Panic => "panic",
            Self::Origin => "origin",
            Self::AuthorizationPresent => "authorization_present",
            Self::NoKey => "no_key",
            Self::Overloaded => "overloaded",
            Self::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
