//! Room for one more tenant, at the cost of another one. Called when a tenant is created.

use std::time::Duration;

use super::{
    super::{recency::Worth, rules::Rules, shared::Map, timeline::Tick},
    LONGEST_LOOK, Ledger, Outcome,
};

/// Whether there is room for another tenant.
pub(in super::super) enum Room {
    Yes,
    /// Unknown yet: it took long enough to look. Ask again.
    Perhaps,
    No,
}

impl<K: Eq + std::hash::Hash> Ledger<K> {
    /// Makes room for one more tenant, if need be at the cost of another one: first of one that never
    /// had a token, then of one whose token can be fetched again, and last of one with a session.
    pub(in super::super) fn make_room(
        &mut self,
        map: &Map<K>,
        tick: Tick,
        rules: &Rules,
        outcome: &mut Outcome<K>,
    ) -> Room {
        if self.tenants.len() < rules.limits.max_tenants {
            return Room::Yes;
        }
        let mut worths = [Worth::Nothing, Worth::Token, Worth::Session].into_iter();
        let Some(mut worth) = worths.next() else { return Room::No };
        for _ in 0..LONGEST_LOOK {
            let oldest = self.recency.oldest(worth);
            let node = oldest.and_then(|id| Some((id, self.tenants.get_mut(id)?)));
            let verdict = node.map_or(Verdict::Stays, |(id, node)| {
                self.overruns.correct(&node.tenant);
                let noted = self.recency.noted(id);
                let used = node.life.last_used(&node.tenant);
                if used > noted || node.life.worth() != worth {
                    return Verdict::Noted(id, used.max(noted));
                }
                if !node.life.is_at_rest() {
                    // Those after it may be.
                    let now = tick.seconds();
                    return if noted < now { Verdict::Noted(id, now) } else { Verdict::Stays };
                }
                // The second of the last use may have ended just now.
                let idle = tick.since(Tick::from_seconds(used).after(SECOND));
                let spare = match worth {
                    // One that is asked for in vain all the time keeps nobody out for ever. It loses
                    // its back-off, so that is not done more often than a token is asked for.
                    Worth::Nothing => {
                        idle >= SPARED.min(rules.limits.evictable_after())
                            || tick.since(self.made_room) >= SECOND
                    }
                    Worth::Token | Worth::Session => idle >= rules.limits.evictable_after(),
                };
                if spare { Verdict::Goes(id) } else { Verdict::Stays }
            });
            match verdict {
                Verdict::Noted(id, second) => self.note_use(id, second),
                Verdict::Goes(id) => {
                    if worth == Worth::Nothing {
                        self.made_room = tick;
                    }
                    outcome.forgotten.extend(self.forget(id, map));
                    return Room::Yes;
                }
                Verdict::Stays => match worths.next() {
                    Some(next) => worth = next,
                    None => return Room::No,
                },
            }
        }
        Room::Perhaps
    }
}

/// What becomes of a tenant when another one needs room.
enum Verdict {
    /// It and those after it in its list stay.
    Stays,
    /// Its place in the list was not the right one: it was used in this second.
    Noted(u32, u32),
    Goes(u32),
}

const SECOND: Duration = Duration::from_secs(1);

/// How long one that never had a token is spared, if others make room in its place.
const SPARED: Duration = Duration::from_secs(10);
