#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
//! A tower middleware that puts a valid OAuth 2.0 access token on every outgoing request.

pub mod client_auth;
mod endpoint;
pub mod error;
pub mod grant;
pub mod http;
pub mod middleware;
pub mod observe;
pub mod refresh;
pub mod secret;
pub(crate) mod slot;
pub mod source;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
pub mod time;
pub mod token;

pub use crate::{
    client_auth::ClientAuth,
    error::{BoxError, ConfigError, Error, ErrorKind, OAuthError},
    grant::{ClientCredentials, RefreshToken},
    http::Transport,
    middleware::{
        Buffered, CloneRequest, ExistingAuthorization, ForeignOrigin, Idempotent, NoReplay, OAuth,
        OAuthLayer, Origins,
    },
    refresh::{Rejection, State, Status, Token, TokenHandle},
    secret::{Secret, SecretSource},
    source::{Chain, FetchContext, FixedToken, FromService, TokenSource, source_fn},
    token::{Scopes, TokenSet, TokenType},
};
