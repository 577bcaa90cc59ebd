//! Time: what the clocks say, and how long to wait after a failure.
//!
//! Timers stop while a machine sleeps, and wall clocks jump. A [`Clock`] gives both boot time and
//! wall time, and a token's expiry is kept in both. Where boot time goes on while the machine sleeps,
//! it decides; elsewhere whichever says "expired" first is believed.

mod backoff;
mod clock;
mod contained;
mod runtime;
mod server_clock;

pub(crate) use backoff::{full_jitter, spread};
pub use clock::{Clock, Moment, SystemClock};
pub(crate) use clock::{believed, instant_in, nanoseconds_since_1970};
pub(crate) use contained::contained;
#[cfg(feature = "pool")]
pub(crate) use runtime::NoTimers;
pub(crate) use runtime::timers;
pub(crate) use server_clock::ServerClock;
