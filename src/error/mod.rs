//! What can go wrong: [`Error`] at run time, [`ConfigError`] at build time.
//!
//! ```
//! use tower_oauth::{Error, ErrorKind};
//!
//! let error = Error::new(ErrorKind::Throttled, "the sidecar asked us to slow down");
//! assert!(error.is_retryable());
//! ```

mod config;
mod kind;
mod oauth;
mod runtime;
mod text;

pub use config::ConfigError;
pub use kind::ErrorKind;
pub(crate) use oauth::LONGEST_TEXT;
pub use oauth::OAuthError;
pub use runtime::Error;
pub(crate) use text::printable;

/// A type-erased error, as tower services use it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
