//! Uses of tokens that were later than requests noted. Called by the ledger.

use super::tenant::{Tenant, Use};

/// Seconds that requests took for the current one for too long.
///
/// A request notes a use under the second that another request read off the clock, until the keeper
/// ends that second. If the keeper has no turn, a use that was noted under an old second may have been
/// as late as the turn that ends it, and counts as that late: no tenant in use is dropped as idle.
#[derive(Debug, Default)]
pub(super) struct Overruns(Vec<Overrun>);

#[derive(Debug)]
struct Overrun {
    noted: u32,
    until: u32,
}

impl Overruns {
    /// Notes that the second `noted` was ended in the second `until`.
    pub(super) fn add(&mut self, noted: u32, until: u32) {
        // The keeper ends a second in the next one.
        if until <= noted.saturating_add(1) {
            return;
        }
        if self.0.len() >= MOST {
            let lengths = self.0.iter().enumerate().map(|(at, it)| (it.until - it.noted, at));
            if let Some((_, shortest)) = lengths.min() {
                self.0.remove(shortest);
            }
        }
        self.0.push(Overrun { noted, until });
    }

    /// Corrects the last use of a tenant.
    pub(super) fn correct<K>(&self, tenant: &Tenant<K>) {
        if !self.0.is_empty()
            && let Use::At(second) = tenant.used()
            && let Some(overrun) = self.0.iter().find(|overrun| overrun.noted == second)
        {
            tenant.postpone(second, overrun.until);
        }
    }
}

/// How many are kept: of more, the longest.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{slot::Slot, time::SystemClock};

    #[test]
    fn f71_a_use_counts_as_late_as_it_may_have_been() {
        let mut overruns = Overruns::default();
        overruns.add(10, 11);
        overruns.add(20, 50);
        (100..300).for_each(|second| overruns.add(second, second + 2));
        assert_eq!(overruns.0.len(), MOST);
        let tenant = Tenant::new((), 0, Slot::new(Arc::new(SystemClock::new())));
        for (used, expected) in [(10, 10), (20, 50), (21, 21), (299, 301)] {
            tenant.mark(used);
            overruns.correct(&tenant);
            assert_eq!(tenant.used(), Use::At(expected));
        }
    }
}
