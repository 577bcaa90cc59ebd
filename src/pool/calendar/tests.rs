use std::collections::BTreeMap;

use super::*;

fn at(milliseconds: u64) -> Tick {
    Tick::NEVER.after(Duration::from_millis(milliseconds))
}

fn due(calendar: &mut Calendar, now: u64) -> Vec<u32> {
    let mut due = Vec::new();
    while let Some(step) = calendar.step(at(now)) {
        due.extend(match step {
            Step::Due(id) => Some(id),
            Step::Sorted => None,
        });
    }
    due.sort_unstable();
    due
}

#[test]
fn each_comes_at_its_time_whatever_else_happens() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut now = 3_600_000;
        let mut calendar = Calendar::new(at(now));
        let mut expected: BTreeMap<u32, u64> = BTreeMap::new();
        for round in 0..5_000 {
            let id = random.u32(0..300);
            match random.u32(0..8) {
                0..=4 => {
                    let span = [100, 10_000, 1_000_000, 20_000_000][random.usize(0..4)];
                    let due = now + random.u64(0..span);
                    calendar.insert(id, at(due));
                    expected.insert(id, due);
                    assert_eq!(calendar.due(id), at(due));
                }
                5 => {
                    calendar.remove(id);
                    expected.remove(&id);
                    assert_eq!(calendar.due(id), Tick::FAR);
                }
                _ => {
                    let leap = [100, 20_000, 20_000_000]
                        [usize::from(round % 50 == 0) + random.usize(0..2)];
                    now += random.u64(0..leap);
                    let came = due(&mut calendar, now);
                    for id in &came {
                        assert!(expected[id] <= now, "{id} came too soon");
                        expected.remove(id);
                    }
                    // In its slot, and so at most a slot late.
                    let late: Vec<_> =
                        expected.iter().filter(|(_, due)| **due + SLOT <= now).collect();
                    assert!(late.is_empty(), "at {now}: {late:?} (seed {seed})");
                    let first = expected.values().min();
                    let next = calendar.next();
                    assert_eq!(next.is_some(), first.is_some());
                    if let (Some(next), Some(first)) = (next, first) {
                        assert!(next <= at(first + SLOT), "somebody is slept past");
                    }
                }
            }
        }
    }
}

#[test]
fn who_is_due_at_once_does_not_wait_for_a_slot() {
    let mut calendar = Calendar::new(at(3_600_001));
    calendar.insert(5, Tick::NEVER);
    assert_eq!(calendar.next(), Some(Tick::NEVER));
    assert_eq!(due(&mut calendar, 3_600_001), [5]);
    assert_eq!(calendar.next(), None);
}

#[test]
fn a_wake_up_at_the_time_that_was_given_finds_somebody() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut calendar = Calendar::new(at(1_000));
    for id in 0..100 {
        calendar.insert(id, at(1_000 + random.u64(0..10_000_000)));
    }
    let (mut found, mut wakes) = (0, 0);
    while let Some(next) = calendar.next() {
        wakes += 1;
        found += due(&mut calendar, next.milliseconds()).len();
    }
    assert_eq!(found, 100);
    // Once for a page, once for a slot, and now and then for the end of the ring.
    assert!(wakes <= 310, "{wakes}");
}

#[test]
fn an_empty_calendar_takes_any_leap() {
    let mut calendar = Calendar::new(at(0));
    assert_eq!(calendar.step(at(u64::MAX / 2)), None);
    calendar.insert(1, Tick::FAR);
    assert!(calendar.next().is_some());
    assert_eq!(calendar.due(1), Tick::FAR);
}
