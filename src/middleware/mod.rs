//! The layer: puts the current token on every request that goes to an allowed origin.
//!
//! ```
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_oauth::{FixedToken, OAuthLayer, TokenHandle, TokenSet};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_oauth::BoxError> {
//! let tokens = TokenHandle::spawn(FixedToken::new(TokenSet::bearer("abc")?));
//! let client = tower::service_fn(|request: http::Request<String>| async move {
//!     assert_eq!(request.headers()["authorization"], "Bearer abc");
//!     Ok::<_, std::convert::Infallible>(http::Response::new(()))
//! });
//!
//! let api = ServiceBuilder::new()
//!     .layer(OAuthLayer::new(tokens, "https://api.example".parse()?))
//!     .service(client);
//!
//! let request = http::Request::get("https://api.example/orders").body(String::new())?;
//! api.oneshot(request).await?;
//! # Ok(())
//! # }
//! ```

mod answer;
mod attempt;
mod budget;
mod challenge;
mod claim;
mod context;
mod dispatch;
mod future;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
#[cfg(feature = "pool")]
mod keyed;
mod layer;
mod origin;
#[cfg_attr(not(feature = "dpop"), path = "no_proof.rs")]
mod proof;
#[cfg(feature = "reqwest")]
mod redirect;
mod refused_by;
mod replay;
#[cfg(feature = "reqwest-middleware")]
mod reqwest_middleware;
mod second;
mod service;
mod tokens;
mod trailers;
mod used_token;
mod verdict;

pub use challenge::{AuthenticationRequirements, Challenge, Challenges};
#[cfg(feature = "pool")]
#[cfg_attr(docsrs, doc(cfg(feature = "pool")))]
pub use context::MissingKey;
pub use context::{ExistingAuthorization, ForeignOrigin};
pub use future::ResponseFuture;
#[cfg(feature = "pool")]
#[cfg_attr(docsrs, doc(cfg(feature = "pool")))]
pub use keyed::{KeyedOAuth, KeyedOAuthLayer};
pub use layer::OAuthLayer;
pub use origin::Origins;
pub use refused_by::ResponseHead;
#[cfg(feature = "reqwest")]
pub use replay::BufferedReqwest;
pub use replay::{
    Buffered, BufferedRequest, CloneRequest, CloneableRequest, Idempotent, NoReplay, Replay,
    ReplayBody,
};
pub use second::{FailFast, SecondService};
pub use service::OAuth;
pub use trailers::{GrpcTrailers, GrpcTrailersFuture, GrpcTrailersLayer, GrpcTrailersService};
pub use used_token::UsedToken;
