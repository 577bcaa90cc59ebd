use std::{cmp::Reverse, collections::BinaryHeap, mem};

use super::timeline::Tick;

/// Who is to be looked at when: a ring of buckets, one for every four seconds of the next hour and
/// a bit. What lies further off waits in the last bucket, and is put on from there.
///
/// Adding, moving and removing take the same short time whatever the number of tenants. The buckets
/// that have been opened are put in order to the millisecond; they are few.
#[derive(Debug)]
pub(super) struct Calendar {
    ring: Box<[Vec<u32>]>,
    /// How many are in the ring.
    later: usize,
    /// The bucket that is being opened; those before it are empty.
    open: u64,
    soon: BinaryHeap<Reverse<(Tick, u32)>>,
}

/// Where in the calendar somebody is. Kept by whoever is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Nowhere,
    /// Among those of the next seconds. To leave, it is enough to be somewhere else.
    Soon,
    Later {
        bucket: u16,
        position: u32,
    },
}

/// What a look at the calendar found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Out of the ring: its time may have come, or come soon.
    Later(u32),
    /// Put in for this tick, unless it has gone elsewhere since.
    Soon(Tick, u32),
}

impl Calendar {
    pub(super) fn new(now: Tick) -> Self {
        Self {
            ring: vec![Vec::new(); BUCKETS].into(),
            later: 0,
            open: bucket(now),
            soon: BinaryHeap::new(),
        }
    }

    /// Puts `id` in for `due`.
    pub(super) fn insert(&mut self, id: u32, due: Tick) -> Place {
        let number = bucket(due).min(self.open + LAST);
        if number <= self.open {
            self.soon.push(Reverse((due, id)));
            return Place::Soon;
        }
        let at = index(number);
        let Some(bucket) = self.ring.get_mut(at) else { return Place::Nowhere };
        bucket.push(id);
        self.later += 1;
        let position = u32::try_from(bucket.len() - 1).unwrap_or(u32::MAX);
        Place::Later { bucket: u16::try_from(at).unwrap_or(u16::MAX), position }
    }

    /// Takes whoever is at `place` out. Returns who has its position now.
    pub(super) fn remove(&mut self, place: Place) -> Option<u32> {
        let Place::Later { bucket, position } = place else { return None };
        let bucket = self.ring.get_mut(usize::from(bucket))?;
        if position as usize >= bucket.len() {
            return None;
        }
        bucket.swap_remove(position as usize);
        self.later -= 1;
        bucket.get(position as usize).copied()
    }

    /// Takes out one whose time has come, or whose bucket is opened.
    pub(super) fn pop(&mut self, now: Tick) -> Option<Found> {
        let current = bucket(now);
        loop {
            if self.later == 0 {
                self.open = self.open.max(current);
            }
            let bucket = self.ring.get_mut(index(self.open))?;
            if let Some(id) = bucket.pop() {
                self.later -= 1;
                return Some(Found::Later(id));
            }
            if self.open >= current {
                break;
            }
            // What a crowded bucket took is given back.
            drop(mem::take(bucket));
            self.open += 1;
        }
        let Reverse((due, id)) = self.soon.peek().copied()?;
        if due > now {
            return None;
        }
        self.soon.pop();
        Some(Found::Soon(due, id))
    }

    /// When there is something to do, at the earliest.
    pub(super) fn next(&self) -> Option<Tick> {
        let soon = self.soon.peek().map(|Reverse((due, _))| *due);
        let occupied = |number: &u64| self.ring.get(index(*number)).is_some_and(|b| !b.is_empty());
        let later = if self.later == 0 {
            None
        } else {
            (self.open..=self.open + LAST).find(occupied).map(begin)
        };
        soon.into_iter().chain(later).min()
    }
}

fn bucket(tick: Tick) -> u64 {
    tick.milliseconds() / WIDTH
}

fn begin(bucket: u64) -> Tick {
    Tick::NEVER.after(std::time::Duration::from_millis(bucket.saturating_mul(WIDTH)))
}

fn index(bucket: u64) -> usize {
    usize::try_from(bucket % BUCKETS as u64).unwrap_or_default()
}

const BUCKETS: usize = 1024;
const WIDTH: u64 = 4000;
/// How far ahead of the open bucket the last one is.
const LAST: u64 = BUCKETS as u64 - 1;

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;

    fn at(milliseconds: u64) -> Tick {
        Tick::NEVER.after(Duration::from_millis(milliseconds))
    }

    /// What the ledger does: keeps places, and puts back what came too early.
    struct Book {
        calendar: Calendar,
        entries: BTreeMap<u32, (Tick, Place)>,
    }

    impl Book {
        fn put(&mut self, id: u32, due: Tick) {
            self.take(id);
            let place = self.calendar.insert(id, due);
            self.entries.insert(id, (due, place));
        }

        fn take(&mut self, id: u32) {
            let Some((_, place)) = self.entries.remove(&id) else { return };
            if let Some(moved) = self.calendar.remove(place) {
                self.entries.get_mut(&moved).unwrap().1 = place;
            }
        }

        fn due(&mut self, now: Tick) -> Vec<u32> {
            let mut due = Vec::new();
            while let Some(found) = self.calendar.pop(now) {
                let (id, valid) = match found {
                    Found::Later(id) => (id, true),
                    Found::Soon(tick, id) => {
                        (id, self.entries.get(&id) == Some(&(tick, Place::Soon)))
                    }
                };
                let (tick, _) = self.entries[&id];
                if !valid {
                    continue;
                }
                self.entries.get_mut(&id).unwrap().1 = Place::Nowhere;
                if tick <= now {
                    self.entries.remove(&id);
                    due.push(id);
                } else {
                    self.put(id, tick);
                }
            }
            due
        }
    }

    #[test]
    fn each_comes_at_its_time_whatever_else_happens() {
        let mut random = fastrand::Rng::with_seed(7);
        let start = 3_600_000;
        let mut book = Book { calendar: Calendar::new(at(start)), entries: BTreeMap::new() };
        let mut expected: BTreeMap<u32, u64> = BTreeMap::new();
        let mut now = start;
        for round in 0..20_000 {
            match random.u32(0..4) {
                0 | 1 => {
                    let id = random.u32(0..200);
                    let span = [100, 10_000, 10_000_000][random.usize(0..3)];
                    let due = now + random.u64(1..span);
                    // A tenant that is due is never put in twice in the heap by its owner here.
                    if !matches!(book.entries.get(&id), Some((_, Place::Soon))) {
                        book.put(id, at(due));
                        expected.insert(id, due);
                    }
                }
                2 => {
                    let id = random.u32(0..200);
                    if !matches!(book.entries.get(&id), Some((_, Place::Soon))) {
                        book.take(id);
                        expected.remove(&id);
                    }
                }
                _ => {
                    now += random.u64(0..if round % 100 == 0 { 20_000_000 } else { 20_000 });
                    let mut due = book.due(at(now));
                    due.sort_unstable();
                    let ripe: Vec<_> = expected
                        .iter()
                        .filter(|(_, due)| **due <= now)
                        .map(|(id, _)| *id)
                        .collect();
                    assert_eq!(due, ripe, "at {now}");
                    expected.retain(|_, due| *due > now);
                    if let Some(next) = book.calendar.next() {
                        let first = expected.values().min().copied().unwrap();
                        assert!(next <= at(first), "nobody is slept past");
                    }
                }
            }
        }
    }

    #[test]
    fn an_empty_calendar_has_nothing_to_do_and_takes_any_leap() {
        let mut calendar = Calendar::new(at(0));
        assert_eq!(calendar.next(), None);
        assert_eq!(calendar.pop(at(u64::MAX / 2)), None);
        let place = calendar.insert(1, Tick::FAR);
        assert!(matches!(place, Place::Later { .. }));
        assert!(calendar.next().is_some());
    }
}
