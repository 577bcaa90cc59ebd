//! Keeps a token fresh: obtained before it is needed, renewed before it expires.
//!
//! [`TokenHandle`] is what you hold and share. Behind it one task, the refresher, asks the
//! [`TokenSource`](crate::TokenSource) for tokens and publishes them. It is the only caller of the
//! source, so a thousand requests that need a token make one token request.
//!
//! ```
//! use std::time::Duration;
//! use tower_oauth::{TokenHandle, TokenSet, source_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_oauth::Error> {
//! let source = source_fn(|_| async {
//!     Ok(TokenSet::bearer("2YotnFZFEjr1zCsicMWpAA")?.with_lifetime(Duration::from_secs(3600)))
//! });
//! let tokens = TokenHandle::spawn(source);
//! tokens.ready().await?;
//! assert!(tokens.status().expires_at().is_some());
//! # Ok(())
//! # }
//! ```

mod begun;
mod builder;
mod fetch;
#[cfg(feature = "mtls")]
mod follow;
mod handle;
mod listen;
mod plan;
mod policy;
mod refresher;
mod refusal;
mod rejections;
mod setbacks;
mod shared;
mod shutdown;
mod spacing;
mod status;
mod step_up;
mod token;

#[cfg(feature = "pool")]
pub(crate) use self::{
    begun::Begun,
    fetch::fetch_then,
    plan::{Facts, HEARTBEAT, Held, JUMP_SPREAD, Plan, jumped, plan_within},
    policy::{Policy, Schedule},
    rejections::{Act, Claim, Judgement, Rejections, TrialUse},
    setbacks::{Pause, Remains, Setbacks},
    shared::kept,
};
pub use builder::TokenHandleBuilder;
pub use handle::TokenHandle;
pub use refresher::Refresher;
pub(crate) use refusal::Refusal;
pub use rejections::Rejection;
pub(crate) use shared::can_wait;
pub use shutdown::Shutdown;
pub use status::{State, Status};
pub(crate) use step_up::SteppingUp;
pub use token::Token;
