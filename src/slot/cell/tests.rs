use std::{
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::*;
use crate::time::{Moment, SystemClock};

#[derive(Debug)]
struct StoppedClock(AtomicU64);

impl Clock for StoppedClock {
    fn now(&self) -> Moment {
        let time = Duration::from_secs(self.0.load(Ordering::Relaxed));
        Moment { boot: time, wall: SystemTime::UNIX_EPOCH + time }
    }
}

fn token(value: &str) -> Arc<TokenSet> {
    Arc::new(TokenSet::bearer(value).unwrap())
}

fn an_hour(clock: &dyn Clock) -> Validity {
    Validity { obtained: Instant::now(), expires: clock.now().after(Duration::from_secs(3600)) }
}

#[test]
fn an_empty_slot_injects_nothing() {
    let slot = Slot::new(Arc::new(SystemClock::new()));
    let mut headers = HeaderMap::new();
    assert_eq!(slot.inject(&mut headers), None);
    assert!(headers.is_empty());
}

#[test]
fn inj_06_the_header_is_marked_sensitive() {
    let clock = SystemClock::new();
    let slot = Slot::new(Arc::new(clock));
    slot.put(slot.entry(1, token("abc"), an_hour(&clock)).unwrap());
    let mut headers = HeaderMap::new();
    assert_eq!(slot.inject(&mut headers), Some(1));
    let header = headers.get(AUTHORIZATION).unwrap();
    assert_eq!(header, "Bearer abc");
    assert!(header.is_sensitive());
    assert!(!format!("{headers:?} {slot:?}").contains("abc"));
}

#[test]
fn f18_only_the_current_epoch_can_be_taken_out() {
    let clock = SystemClock::new();
    let slot = Slot::new(Arc::new(clock));
    slot.put(slot.entry(1, token("one"), an_hour(&clock)).unwrap());
    slot.put(slot.entry(2, token("two"), an_hour(&clock)).unwrap());
    assert!(!slot.take(1));
    assert!(slot.newer_than(1).is_some());
    assert!(slot.newer_than(2).is_none());
    assert!(slot.take(2));
    assert!(!slot.take(2));
    assert!(slot.newer_than(0).is_none());
}

#[test]
fn a_wall_clock_past_the_expiry_hides_the_token_at_once() {
    let clock = Arc::new(StoppedClock(AtomicU64::new(1000)));
    let slot = Slot::new(clock.clone());
    slot.put(slot.entry(1, token("abc"), an_hour(&*clock)).unwrap());
    assert_eq!(slot.inject(&mut HeaderMap::new()), Some(1));
    clock.0.store(1000 + 3600, Ordering::Relaxed);
    assert_eq!(slot.inject(&mut HeaderMap::new()), None);
}

/// A reader sees one whole token of its own slot, and never one that was taken out before it began.
#[test]
fn f29_readers_see_whole_tokens_of_their_own_slot() {
    let clock = SystemClock::new();
    let slots: Vec<_> = (0..4).map(|_| Slot::new(Arc::new(clock))).collect();
    let done = AtomicBool::new(false);
    let newest: Vec<_> = (0..4).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for (i, slot) in slots.iter().enumerate() {
                        let oldest = newest[i].load(Ordering::Acquire);
                        let mut headers = HeaderMap::new();
                        let Some(epoch) = slot.inject(&mut headers) else {
                            continue;
                        };
                        assert!(epoch >= oldest, "{epoch} was replaced by {oldest}");
                        let header = headers[AUTHORIZATION].to_str().unwrap().to_owned();
                        assert_eq!(header, format!("Bearer slot{i}-token{epoch}"));
                    }
                }
            });
        }
        scope.spawn(|| {
            for epoch in 1..=2000 {
                for (i, slot) in slots.iter().enumerate() {
                    let token = token(&format!("slot{i}-token{epoch}"));
                    slot.put(slot.entry(epoch, token, an_hour(&clock)).unwrap());
                    newest[i].store(epoch, Ordering::Release);
                    if epoch % 3 == 0 {
                        slot.take(epoch);
                    }
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn f57_debug_names_the_epoch_and_shows_no_token() {
    let clock = SystemClock::new();
    let slot = Slot::new(Arc::new(clock));
    assert_eq!(format!("{slot:?}"), "Slot { current: None, .. }");
    slot.put(slot.entry(7, token("kanarienvogel"), an_hour(&clock)).unwrap());
    assert_eq!(format!("{slot:?}"), "Slot { current: Some(Entry { epoch: 7, .. }), .. }");
    assert_eq!(format!("{:?}", slot.peek().unwrap()), "Entry { epoch: 7, .. }");
}
