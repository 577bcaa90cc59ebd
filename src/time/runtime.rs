use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use tokio::{
    runtime::{Handle, Id},
    time::sleep,
};

/// Why nothing can be waited for here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoTimers {
    /// There is no tokio runtime.
    NoRuntime,
    /// Its timers are not enabled.
    Disabled,
}

impl NoTimers {
    /// What is missing, and what to do.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NoRuntime => "outside of a tokio runtime",
            Self::Disabled => {
                "on a tokio runtime without timers (call enable_time() on its builder)"
            }
        }
    }
}

/// Whether there can be timers here: where there cannot, tokio's panic.
///
/// Tokio has no question for it but to make a timer. A runtime without timers is asked once on each
/// thread, because the panic hook sees the answer.
pub(crate) fn timers() -> Result<(), NoTimers> {
    thread_local! {
        static LAST: Cell<Option<(Id, bool)>> = const { Cell::new(None) };
    }
    let Ok(runtime) = Handle::try_current() else { return Err(NoTimers::NoRuntime) };
    let id = runtime.id();
    let known = LAST.get().filter(|(last, _)| *last == id);
    let enabled = known.map_or_else(
        || catch_unwind(AssertUnwindSafe(|| drop(sleep(Duration::ZERO)))).is_ok(),
        |(_, enabled)| enabled,
    );
    LAST.set(Some((id, enabled)));
    if enabled { Ok(()) } else { Err(NoTimers::Disabled) }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn f72_it_is_known_where_there_are_timers() {
        assert_eq!(timers(), Err(NoTimers::NoRuntime));
        let without = Builder::new_current_thread().build().unwrap();
        let with = Builder::new_current_thread().enable_time().build().unwrap();
        for _ in 0..2 {
            without.block_on(async { assert_eq!(timers(), Err(NoTimers::Disabled)) });
            with.block_on(async { assert_eq!(timers(), Ok(())) });
        }
        assert_eq!(timers(), Err(NoTimers::NoRuntime));
    }
}
