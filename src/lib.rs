#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
//! A tower middleware that puts a valid OAuth 2.0 access token on every outgoing request.
//!
//! [`TokenHandle`] keeps a token fresh; [`OAuthLayer`] puts it on requests. Between them lies one
//! atomic pointer, so a request that finds a token takes no lock, makes no allocation and does not
//! wait.
//!
//! ```
//! use tower::{Service, ServiceBuilder, ServiceExt};
//! use tower_oauth::{
//!     ClientAuth, ClientCredentials, CloneRequest, OAuthLayer, Origins, TokenHandle,
//!     testing::{AuthorizationServer, ProtectedApi},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_oauth::BoxError> {
//! // Two servers to try it on; in real life, somebody else's.
//! let issuer = AuthorizationServer::start().await?;
//! let api = ProtectedApi::start(&issuer).await?;
//!
//! let auth = ClientAuth::basic("orders", "gX1fBat3bV");
//! let source = ClientCredentials::builder(issuer.token_endpoint(), auth)
//!     .scope("orders.read")
//!     .build()?;
//! let tokens = TokenHandle::spawn(source);
//!
//! let origins: Origins = api.url().parse()?;
//! let http = reqwest::Client::builder().redirect(origins.redirect_policy()).build()?;
//! let mut client = ServiceBuilder::new()
//!     .layer(OAuthLayer::new(tokens, origins).replay(CloneRequest))
//!     .service(http.clone());
//!
//! let request = http.get(api.url()).build()?;
//! let response = client.ready().await?.call(request).await?;
//! assert_eq!(response.status(), 200);
//! # Ok(())
//! # }
//! ```
//!
//! # The rooms
//!
//! | to | look in |
//! | --- | --- |
//! | build the token request | [`grant`], [`client_auth`] |
//! | find an authorization server's endpoints | [`discovery`] |
//! | end tokens, ask about them | [`revocation`], [`introspection`] |
//! | bring tokens from elsewhere | [`source`] |
//! | keep a token fresh, ask for its state | [`refresh`] |
//! | keep the tokens of many tenants | `pool` |
//! | put it on requests | [`middleware`] |
//! | read all of this from a file, reload it | `config` |
//! | begin with an OpenAPI document | `openapi` |
//! | read secrets | [`secret`] |
//! | keep tokens beyond the process | `store` |
//! | see what happens | [`observe`] |
//! | test your own code | `testing` |
//!
//! Longer reading: [choosing a grant](docs::choosing_a_grant), [the order of
//! layers](docs::layer_order), [operating it](docs::operating), [reliability](docs::reliability),
//! [security](docs::security), [performance](docs::performance), `docs::storing_tokens`,
//! `docs::moving_from_outsystems`.
//!
//! # Features
//!
//! | feature | default | adds |
//! | --- | --- | --- |
//! | `reqwest` | yes | the default HTTP client for the token endpoint, and the layer on `reqwest::Request` |
//! | `private-key-jwt` | no | client authentication by a signed assertion |
//! | `external-command` | no | `ExternalCommand`, a token from a program's output |
//! | `dpop` | no | tokens bound to a key of the client's, and a proof on every request |
//! | `mtls` | no | client authentication by a certificate, and tokens bound to it |
//! | `store` | no | tokens that outlive the process: `Persisted`, `TokenStore` |
//! | `store-file` | no | `FileStore`: tokens in sealed files, for the processes of one machine (Unix) |
//! | `store-keyring` | no | `KeyringStore`: tokens in the keychain of the operating system (macOS, Secret Service) |
//! | `store-redis` | no | `RedisStore`: sealed tokens in Redis, for a fleet |
//! | `tracing` | yes | every [event](observe::Event) as a `tracing` event, target `tower_oauth` |
//! | `metrics` | no | every event as metrics, to the recorder of the crate `metrics`; see [operating it](docs::operating) |
//! | `reqwest-middleware` | no | `OAuthLayer` as a middleware of the crate `reqwest-middleware` |
//! | `pool` | no | `TokenPool`, a token for each of many tenants |
//! | `config` | no | everything the builders take, from a configuration file, and reloaded |
//! | `openapi` | no | a draft of such a configuration, from an OpenAPI document |
//! | `testing` | no | a scriptable authorization server and API for tests |
//! | `full` | no | all of them |
//!
//! # Defaults
//!
//! | what | default |
//! | --- | --- |
//! | token request: connect, whole | 5 s, 15 s |
//! | largest answer, after decompression | 1 MiB |
//! | a request's wait for a token, and for the service below to be ready after it | 30 s together |
//! | callers that may wait at once | 10 000 |
//! | renewal | after 75 to 85 % of the lifetime, at most 1 h before its end; earlier if it lives for less than 15 s |
//! | expiry | 5 % of the lifetime before the real one, from 1 to 5 s |
//! | lifetime of a token that came without one | 1 h |
//! | pause after a failure that may pass | 0.5 s to 30 s, growing, with jitter |
//! | back-off after an error that needs an operator | 1 min, doubling to 10 min |
//! | `Retry-After` | honoured up to 1 h while there is no token |
//! | any pause while there is a token | at most half of what is left of it |
//! | redirects of the token request | refused |
//! | search for metadata | 10 s |
//! | metadata is kept | as the server says, from 1 min to 24 h; 1 h if it does not |
//! | plain `http` | refused, except on loopback |
//! | age at which a bare 401 counts | 10 s |
//! | renewals because of refusals | at once; while they do not help, at least 2 s apart (20 s for a bare 401), doubling to 5 min |

pub mod client_auth;
#[cfg(feature = "config")]
#[cfg_attr(docsrs, doc(cfg(feature = "config")))]
pub mod config;
pub mod discovery;
pub mod docs;
#[cfg(feature = "dpop")]
#[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
pub mod dpop;
mod endpoint;
pub mod error;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
pub mod grant;
pub mod http;
pub mod introspection;
#[cfg(feature = "private-key-jwt")]
#[cfg_attr(docsrs, doc(cfg(feature = "private-key-jwt")))]
pub mod jose;
#[cfg(all(feature = "dpop", not(feature = "private-key-jwt")))]
mod jose;
pub mod middleware;
pub mod observe;
#[cfg(feature = "openapi")]
#[cfg_attr(docsrs, doc(cfg(feature = "openapi")))]
pub mod openapi;
#[cfg(feature = "pool")]
#[cfg_attr(docsrs, doc(cfg(feature = "pool")))]
pub mod pool;
pub mod refresh;
pub mod revocation;
pub mod secret;
pub(crate) mod slot;
pub mod source;
#[cfg(feature = "store")]
#[cfg_attr(docsrs, doc(cfg(feature = "store")))]
pub mod store;
mod task;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
pub mod time;
pub mod token;

#[cfg(feature = "mtls")]
#[cfg_attr(docsrs, doc(cfg(feature = "mtls")))]
pub use crate::http::{ClientCertificate, MutualTlsClient};
pub use crate::{
    client_auth::ClientAuth,
    discovery::{Discovery, EndpointSource, ResourceDiscovery},
    error::{BoxError, ConfigError, Error, ErrorKind, OAuthError},
    grant::{
        ByResource, ClientCredentials, ExternalAccount, FileToken, IssuedToken, JwtBearer,
        RefreshToken, Saml2Bearer, TokenExchange,
    },
    http::Transport,
    introspection::{Introspection, TokenInfo},
    middleware::{
        Buffered, CloneRequest, ExistingAuthorization, FailFast, ForeignOrigin, Idempotent,
        NoReplay, OAuth, OAuthLayer, Origins,
    },
    refresh::{Rejection, State, Status, Token, TokenHandle},
    revocation::Revocation,
    secret::{Secret, SecretSource},
    source::{
        Chain, FetchContext, FixedToken, FromService, Offer, Replaceable, TokenSource, source_fn,
    },
    token::{Scopes, TokenSet, TokenType},
};
#[cfg(feature = "pool")]
pub use crate::{
    middleware::{KeyedOAuth, KeyedOAuthLayer, MissingKey},
    pool::TokenPool,
};

#[cfg(feature = "external-command")]
#[cfg_attr(docsrs, doc(cfg(feature = "external-command")))]
pub use crate::grant::ExternalCommand;

#[cfg(feature = "private-key-jwt")]
#[cfg_attr(docsrs, doc(cfg(feature = "private-key-jwt")))]
pub use crate::{
    client_auth::{AssertionAudience, AssertionType, ClientAssertion},
    jose::{SigningAlgorithm, SigningKey},
};

#[cfg(feature = "dpop")]
#[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
pub use crate::dpop::{DpopAlgorithm, DpopKey};

/// The README's code compiles.
#[cfg(all(doctest, feature = "reqwest", feature = "store-file", unix))]
#[doc = include_str!("../README.md")]
struct Readme;
