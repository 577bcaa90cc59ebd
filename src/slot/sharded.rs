use std::{
    cell::Cell,
    fmt,
    ops::Deref,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    thread::available_parallelism,
};

/// A shared value whose reference count is not shared between threads.
///
/// The owner holds one allocation for each shard of threads, on a cache line of its own. A clone
/// counts in the shard of the thread that makes it. Once the owner is gone, clones still work, but
/// count where they were made.
pub(crate) struct Sharded<T> {
    own: Arc<Shard<T>>,
    /// Held by the owner, and never read: it keeps every shard alive.
    _all: Option<Arc<[Arc<Shard<T>>]>>,
}

/// Two lines wide: some processors fetch lines in pairs. The alignment moves the counts of the
/// `Arc` around it apart as well.
#[repr(align(128))]
struct Shard<T> {
    value: T,
    /// Its place among its siblings.
    index: usize,
    siblings: OnceLock<Arc<[Weak<Shard<T>>]>>,
}

impl<T> Sharded<T> {
    /// An owner. `value` is called once for each shard.
    pub(crate) fn new(mut value: impl FnMut() -> T) -> Self {
        let shard = |index| Arc::new(Shard { value: value(), index, siblings: OnceLock::new() });
        let all: Arc<[_]> = (0..shard_count()).map(shard).collect();
        let siblings: Arc<[_]> = all.iter().map(Arc::downgrade).collect();
        for shard in &*all {
            let _ = shard.siblings.set(siblings.clone());
        }
        let own = all.first().expect("there is at least one shard").clone();
        Self { own, _all: Some(all) }
    }
}

impl<T> Clone for Sharded<T> {
    #[inline]
    fn clone(&self) -> Self {
        let here = this_shard();
        let sibling = || self.own.siblings.get()?.get(here)?.upgrade();
        // Nearly always a clone is cloned where it was made.
        let other = if self.own.index == here { None } else { sibling() };
        Self { own: other.unwrap_or_else(|| self.own.clone()), _all: None }
    }
}

impl<T> Deref for Sharded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.own.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Sharded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// How many shards there are: a power of two, so that finding one is a mask.
pub(super) fn shard_count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        available_parallelism().map_or(1, usize::from).next_power_of_two().min(MAX_SHARDS)
    })
}

/// The shard of the current thread. Threads take turns, so that as many as there are cores share
/// nothing.
#[inline]
pub(super) fn this_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static MINE: Cell<usize> = const { Cell::new(usize::MAX) });
    MINE.with(|mine| {
        if mine.get() == usize::MAX {
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed) & (shard_count() - 1));
        }
        mine.get()
    })
}

/// Bounds what a token costs: each shard holds a copy of its header.
const MAX_SHARDS: usize = 64;

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn threads_count_in_different_shards() {
        let owner = Sharded::new(|| 7);
        let address = |sharded: &Sharded<i32>| std::ptr::from_ref(&*sharded.own) as usize;
        let (first, second) = thread::scope(|scope| {
            // Two threads that start one after the other have neighbouring indices.
            let spawn = || scope.spawn(|| address(&owner.clone())).join().unwrap();
            (spawn(), spawn())
        });
        if shard_count() > 1 {
            assert_ne!(first, second);
            assert!(first.abs_diff(second) >= 128);
        }
        assert_eq!(address(&owner.clone()), address(&owner.clone()));
    }

    #[test]
    fn clones_outlive_the_owner() {
        let owner = Sharded::new(|| String::from("value"));
        let clone = owner.clone();
        drop(owner);
        let second = clone.clone();
        drop(clone);
        assert_eq!(*second, "value");
    }

    #[test]
    fn every_value_is_dropped_with_the_last_clone() {
        let value = Arc::new(());
        let owner = Sharded::new(|| value.clone());
        let clone = owner.clone();
        drop(owner);
        assert_eq!(Arc::strong_count(&value), 2);
        drop(clone);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn there_is_a_shard_for_each_core_up_to_a_bound() {
        let cores = available_parallelism().map_or(1, usize::from);
        assert!(shard_count().is_power_of_two());
        assert!((cores.min(MAX_SHARDS)..=MAX_SHARDS).contains(&shard_count()));
    }

    #[test]
    fn threads_take_turns_over_all_shards() {
        let mut used = vec![0; shard_count()];
        for _ in 0..4 * shard_count() {
            // A shard that is out of range would not be a place in this list.
            used[thread::spawn(this_shard).join().unwrap()] += 1;
        }
        // Other tests may have threads of their own between these.
        assert!(used.iter().all(|threads| (1..=16).contains(threads)), "{used:?}");
        assert_eq!(this_shard(), this_shard(), "a thread stays where it is");
    }

    #[test]
    fn debug_shows_the_value_alone() {
        assert_eq!(format!("{:?}", Sharded::new(|| Some("value"))), r#"Some("value")"#);
    }
}
