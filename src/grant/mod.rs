//! The grants: what a client trades for a token.
//!
//! A grant is a [`TokenSource`](crate::TokenSource). It holds its configuration and asks the token
//! endpoint once per fetch; keeping and renewing tokens is the refresher's work.
//!
//! ```
//! use std::time::Duration;
//! use tower_oauth::{ClientAuth, ClientCredentials, SecretSource};
//!
//! # fn main() -> Result<(), tower_oauth::ConfigError> {
//! let secret = SecretSource::file("/run/secrets/orders");
//! let source = ClientCredentials::builder(
//!     "https://idp.example/oauth2/token",
//!     ClientAuth::basic("orders", secret),
//! )
//! .scope("orders.read")
//! .timeout(Duration::from_secs(5))
//! # .transport(tower_oauth::Transport::new(tower::service_fn(
//! #     |_: http::Request<bytes::Bytes>| async {
//! #         Ok::<_, std::io::Error>(http::Response::new(String::new()))
//! #     },
//! # )))
//! .build()?;
//! # let _ = source;
//! # Ok(())
//! # }
//! ```

mod assertion;
mod builder;
mod by_resource;
mod client_credentials;
mod credential;
mod entra;
mod external_account;
#[cfg(feature = "external-command")]
mod external_command;
mod file_token;
#[cfg(feature = "store")]
mod identity;
mod jwt_bearer;
mod parameter;
mod refresh_token;
mod saml2_bearer;
mod token_exchange;

pub use crate::endpoint::IssuedToken;
pub use builder::GrantBuilder;
pub use by_resource::ByResource;
pub use client_credentials::{ClientCredentials, ClientCredentialsOptions};
pub use external_account::{ExternalAccount, ExternalAccountOptions};
#[cfg(feature = "external-command")]
#[cfg_attr(docsrs, doc(cfg(feature = "external-command")))]
pub use external_command::{CommandFailure, ExternalCommand, ExternalCommandBuilder};
pub use file_token::FileToken;
pub use jwt_bearer::{JwtBearer, JwtBearerOptions};
pub use refresh_token::{RefreshToken, RefreshTokenOptions};
pub use saml2_bearer::{Saml2Bearer, Saml2BearerOptions};
pub use token_exchange::{TokenExchange, TokenExchangeOptions};
