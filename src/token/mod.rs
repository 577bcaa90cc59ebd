//! Tokens: what a token endpoint returned, before anything uses it.
//!
//! ```
//! use std::time::Duration;
//! use tower_oauth::TokenSet;
//!
//! # fn main() -> Result<(), tower_oauth::Error> {
//! let token = TokenSet::bearer("2YotnFZFEjr1zCsicMWpAA")?.with_lifetime(Duration::from_secs(3600));
//! assert!(!format!("{token:?}").contains("2Yotn"));
//! # Ok(())
//! # }
//! ```

mod jwt;
mod members;
mod scopes;
mod set;

pub(crate) use jwt::jwt_expiry;
pub(crate) use members::Members;
pub use scopes::Scopes;
pub use set::{TokenSet, TokenType};
