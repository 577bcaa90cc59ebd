//! Values that must not be printed and do not outlive their use.
//!
//! [`Secret`] is redacted in `Debug` and wiped on drop; [`SecretSource`] is where one is read from,
//! again for every exchange, so that rotating it needs no restart.
//!
//! ```
//! use tower_oauth::Secret;
//!
//! let secret = Secret::from("hunter2");
//! assert_eq!(format!("{secret:?}"), "Secret(..)");
//! assert_eq!(secret.expose(), "hunter2");
//! ```

mod members;
mod source;
mod value;

pub(crate) use members::Members;
pub use source::SecretSource;
pub use value::Secret;
