//! Finds out where an authorization server's endpoints are, and what it supports.
//!
//! [`Discovery`] takes the place of an endpoint's URL wherever one is asked for. Metadata is not the
//! last word: what you configure always wins over what a server says about itself.
//!
//! ```
//! use tower_oauth::{
//!     ClientAuth, ClientCredentials, Discovery, TokenHandle, testing::AuthorizationServer,
//! };
//!
//! # #[cfg(feature = "reqwest")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_oauth::BoxError> {
//! // A server to try it on.
//! let server = AuthorizationServer::start().await?;
//!
//! let idp = Discovery::issuer(server.url());
//! let auth = ClientAuth::secret("orders", "s3cr3t");
//! let tokens = TokenHandle::spawn(ClientCredentials::builder(&idp, auth).build()?);
//! let token = tokens.token().await?.access_token().expose().to_owned();
//! assert!(server.is_active(&token));
//!
//! // Where tokens are revoked was found too.
//! tokens.shutdown().revoke().await?;
//! assert!(!server.is_active(&token));
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "reqwest"))]
//! # fn main() {}
//! ```

mod answer;
mod cache;
mod client;
mod document;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
mod issuer;
mod location;
mod metadata;
mod resource;
mod resource_metadata;
mod screened;
mod source;
mod trust;

pub use issuer::Discovery;
pub use metadata::{EndpointKind, Metadata};
pub use resource::ResourceDiscovery;
pub use resource_metadata::ResourceMetadata;
pub use source::EndpointSource;
