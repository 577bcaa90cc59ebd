//! Finds out where an authorization server's endpoints are, and what it supports.
//!
//! [`Discovery`] takes the place of an endpoint's URL wherever one is asked for. Metadata is not the
//! last word: what you configure always wins over what a server says about itself.
//!
//! ```
//! use tower_oauth::{ClientAuth, ClientCredentials, Discovery};
//!
//! # #[cfg(feature = "reqwest")]
//! # fn main() -> Result<(), tower_oauth::ConfigError> {
//! let idp = Discovery::issuer("https://idp.example/realms/shop");
//! let orders = ClientCredentials::builder(&idp, ClientAuth::secret("orders", "s3cr3t")).build()?;
//! // Shares the metadata.
//! let stock = ClientCredentials::builder(&idp, ClientAuth::secret("stock", "s3cr3t")).build()?;
//! # let _ = (orders, stock);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "reqwest"))]
//! # fn main() {}
//! ```

mod answer;
mod cache;
mod client;
mod document;
mod issuer;
mod location;
mod metadata;
mod resource;
mod resource_metadata;
mod source;
mod trust;

pub use issuer::Discovery;
pub use metadata::{EndpointKind, Metadata};
pub use resource::ResourceDiscovery;
pub use resource_metadata::ResourceMetadata;
pub use source::EndpointSource;
