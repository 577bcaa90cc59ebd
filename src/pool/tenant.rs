use std::{
    borrow::Borrow,
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{slot::Slot, task::Foreign};

/// What a request sees of a tenant.
#[derive(Debug)]
pub(super) struct Tenant<K> {
    pub(super) key: Foreign<K>,
    pub(super) slot: Slot,
    /// Its number in the ledger.
    id: u32,
    /// The second of the last use of the current token, or one of the marks below. Written by
    /// requests once in a second.
    used: AtomicU32,
}

/// Names a tenant without counting a reference to it: requests of one tenant would share the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantId {
    pub(super) id: u32,
    /// Tells it from another tenant that got the same `id` later.
    pub(super) number: u64,
}

/// The use of a tenant's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Nobody has used it.
    Unused,
    /// Nobody has used it, and it was not renewed for that.
    Dormant,
    /// It was last used in this second.
    At(u32),
}

impl<K> Tenant<K> {
    pub(super) fn new(key: K, id: u32, slot: Slot) -> Self {
        Self { key: Foreign::new(key), slot, id, used: AtomicU32::new(UNUSED) }
    }

    pub(super) fn id(&self) -> TenantId {
        TenantId { id: self.id, number: self.slot.number() }
    }

    /// Sets the wall time at which the current token expires anew: the wall clock was set.
    pub(super) fn restamp(&self) {
        if let Some(entry) = self.slot.peek() {
            self.slot.restamp(&entry);
        }
    }

    /// Whether a use in this second was noted already.
    pub(super) fn was_used_in(&self, second: u32) -> bool {
        // Nearly always only read, so that threads do not take the line from each other.
        self.used.load(Ordering::Relaxed) == second
    }

    /// Notes a use. `true` if the token was about to run out unrenewed.
    pub(super) fn mark(&self, second: u32) -> bool {
        self.used.swap(second, Ordering::Relaxed) == DORMANT
    }

    /// Has a use that was noted in one second count as one of a later second.
    pub(super) fn postpone(&self, noted: u32, later: u32) {
        let _ = self.used.compare_exchange(noted, later, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// What use was made of the current token.
    pub(super) fn used(&self) -> Use {
        read(self.used.load(Ordering::Relaxed))
    }

    /// Whether the current token was used, so that it is renewed.
    pub(super) fn is_used(&self) -> bool {
        matches!(self.used(), Use::At(_))
    }

    /// Starts anew, for a new token. Returns what use was made of the last one.
    pub(super) fn renew(&self) -> Use {
        read(self.used.swap(UNUSED, Ordering::Relaxed))
    }

    /// Lets the token run out unless it is used. `false` if it just was.
    pub(super) fn rest(&self) -> bool {
        let swap =
            self.used.compare_exchange(UNUSED, DORMANT, Ordering::Relaxed, Ordering::Relaxed);
        swap.is_ok() || self.used() == Use::Dormant
    }
}

fn read(used: u32) -> Use {
    match used {
        UNUSED => Use::Unused,
        DORMANT => Use::Dormant,
        second => Use::At(second),
    }
}

const UNUSED: u32 = 0;
const DORMANT: u32 = u32::MAX;
/// No second, and none of these marks.
pub(super) const STALE: u32 = u32::MAX - 1;

/// A tenant in the map, found by its key, so that each key is kept once.
pub(super) struct ByKey<K>(pub(super) Arc<Tenant<K>>);

impl<K> Borrow<K> for ByKey<K> {
    fn borrow(&self) -> &K {
        &self.0.key
    }
}

impl<K: Hash> Hash for ByKey<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

impl<K: Eq> PartialEq for ByKey<K> {
    fn eq(&self, other: &Self) -> bool {
        *self.0.key == *other.0.key
    }
}

impl<K: Eq> Eq for ByKey<K> {}
