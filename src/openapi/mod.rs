//! A draft of a configuration, from an OpenAPI document.
//!
//! A document of version 3 says how its API is protected: by which token endpoint or issuer, with
//! which scopes, and at which servers. [`OpenApi`] reads that, in JSON or YAML, and makes an
//! [`OAuthConfig`](crate::config::OAuthConfig) of it; the client is yours to add.
//!
//! ```
//! use tower_oauth::{
//!     config::{ClientConfig, SecretRef},
//!     openapi::OpenApi,
//! };
//!
//! let text = r#"
//! openapi: 3.1.0
//! servers: [{ url: "https://api.example/v1" }]
//! components:
//!   securitySchemes:
//!     orders:
//!       type: oauth2
//!       flows:
//!         clientCredentials:
//!           tokenUrl: https://idp.example/oauth2/token
//!           scopes: { orders.read: Read, orders.write: Write }
//! paths:
//!   /orders:
//!     get:
//!       operationId: listOrders
//!       security: [{ orders: [orders.read] }]
//! "#;
//! let document = OpenApi::parse(text)?;
//! let mut config = document.config()?;
//! assert_eq!(config.token_endpoint.as_deref(), Some("https://idp.example/oauth2/token"));
//! assert_eq!(config.origins, ["https://api.example"]);
//! assert_eq!(config.scope, ["orders.read"]); // what its operations need
//!
//! let secret = SecretRef::File("/run/secrets/orders".into());
//! config.client = Some(ClientConfig::new("orders").secret(secret));
//! println!("{}", toml::to_string(&config)?); // the file to go on with
//! # Ok::<(), tower_oauth::BoxError>(())
//! ```
//!
//! Whoever wrote the document chose where the client's secret goes and where its tokens go. Read
//! the draft before you complete it.

mod document;
mod draft;
mod error;
mod operation;
mod scheme;
mod server;

pub use document::OpenApi;
pub use error::OpenApiError;
pub use operation::{Operation, Requirement};
pub use scheme::{Flow, FlowKind, Protection, SecurityScheme};
