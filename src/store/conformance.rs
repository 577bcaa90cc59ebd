//! What every store has to do. [`store_conformance!`](crate::store_conformance) makes a test of each
//! function here.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails here fails a test")]

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{join, runtime, time::Instant};

use super::{Key, Record, RecordState, Saved, TokenStore, record::Tokens, stamp::Stamp};
use crate::{
    error::ErrorKind,
    source::Identity,
    time::{Clock as _, SystemClock},
    token::TokenSet,
};

/// Tests a [`TokenStore`](crate::store::TokenStore): that it keeps what it was given, compares
/// generations, and gives the right to renew to one at a time.
///
/// It takes an expression that makes a store, in an async block; each test makes one of its own.
/// The tests use records of their own, so that a server may be shared. The module they are in is
/// called `store_conformance`.
///
/// ```
/// use tower_oauth::store::MemoryStore;
///
/// tower_oauth::store_conformance!(MemoryStore::new());
/// ```
#[macro_export]
#[cfg_attr(docsrs, doc(cfg(all(feature = "store", feature = "testing"))))]
macro_rules! store_conformance {
    ($make:expr) => {
        mod store_conformance {
            #[allow(unused_imports)]
            use super::*;

            $crate::store_conformance!(
                @tests $make,
                what_is_not_there_is_absent
                what_was_saved_is_there
                a_record_changes_only_from_the_expected_generation
                every_state_is_kept
                records_do_not_mix
                the_right_is_one_processs_at_a_time
                a_right_that_is_dropped_comes_back
                a_wait_that_is_given_up_changes_nothing
                the_next_one_sees_what_the_last_one_saved
                a_large_record_is_kept
                a_record_that_was_removed_is_gone
                a_hint_is_a_hint
            );
        }
    };
    (@tests $make:expr, $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                $crate::store::conformance::run(async {
                    $crate::store::conformance::$name($make).await;
                });
            }
        )*
    };
}

/// Runs a test.
pub fn run(test: impl Future<Output = ()>) {
    runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

pub async fn what_is_not_there_is_absent(store: impl TokenStore) {
    let key = any().0;
    assert!(store.load(&key).await.unwrap().is_none());
    let (lease, record) = store.acquire(&key, soon()).await.unwrap();
    assert!(record.is_none());
    store.release(lease).await;
    assert!(store.load(&key).await.unwrap().is_none());
}

pub async fn what_was_saved_is_there(store: impl TokenStore) {
    let (key, record) = any();
    let (mut lease, _) = store.acquire(&key, soon()).await.unwrap();
    stored(&store.save(&mut lease, 0, &record).await.unwrap());
    // Also before the right is given back.
    let loaded = store.load(&key).await.unwrap().unwrap();
    assert_eq!(loaded.to_json(), record.to_json());
    store.release(lease).await;
    let (lease, found) = store.acquire(&key, soon()).await.unwrap();
    assert_eq!(found.unwrap().to_json(), record.to_json());
    store.release(lease).await;
}

pub async fn a_record_changes_only_from_the_expected_generation(store: impl TokenStore) {
    let (key, first) = any();
    let next = with(&first, 2, RecordState::Clean, "second");
    let (mut lease, _) = store.acquire(&key, soon()).await.unwrap();
    let Saved::Conflict(None) = store.save(&mut lease, 1, &next).await.unwrap() else {
        panic!("it was stored over an absent record, which is of generation 0");
    };
    stored(&store.save(&mut lease, 0, &first).await.unwrap());
    for wrong in [0, 2, 3, u64::MAX] {
        match store.save(&mut lease, wrong, &next).await.unwrap() {
            Saved::Conflict(Some(there)) => assert_eq!(there.to_json(), first.to_json()),
            other => panic!("generation {wrong} was expected, and it came to {other:?}"),
        }
    }
    stored(&store.save(&mut lease, 1, &next).await.unwrap());
    // Also backwards: what is the newest is for the caller to say.
    stored(&store.save(&mut lease, 2, &first).await.unwrap());
    store.release(lease).await;
    let loaded = store.load(&key).await.unwrap().unwrap();
    assert_eq!(loaded.to_json(), first.to_json());
}

pub async fn every_state_is_kept(store: impl TokenStore) {
    let (key, first) = any();
    let (mut lease, _) = store.acquire(&key, soon()).await.unwrap();
    let mut expected = 0;
    for state in [RecordState::Clean, RecordState::Intent, RecordState::Dead] {
        // The same generation throughout.
        let record = with(&first, 1, state, "token");
        stored(&store.save(&mut lease, expected, &record).await.unwrap());
        expected = 1;
        assert_eq!(store.load(&key).await.unwrap().unwrap().state(), state);
    }
    // An intent before there has been any token.
    let (empty_key, record) = any();
    let bare = Record { generation: 0, state: RecordState::Intent, tokens: None, ..record };
    let (mut other, _) = store.acquire(&empty_key, soon()).await.unwrap();
    stored(&store.save(&mut other, 0, &bare).await.unwrap());
    stored(&store.save(&mut other, 0, &bare).await.unwrap());
    let loaded = store.load(&empty_key).await.unwrap().unwrap();
    assert_eq!((loaded.generation(), loaded.state()), (0, RecordState::Intent));
    store.release(other).await;
    store.release(lease).await;
}

pub async fn records_do_not_mix(store: impl TokenStore) {
    let ((key, record), (other_key, other)) = (any(), any());
    let (mut lease, _) = store.acquire(&key, soon()).await.unwrap();
    // Nor do the rights.
    let (mut other_lease, _) = store.acquire(&other_key, soon()).await.unwrap();
    stored(&store.save(&mut lease, 0, &record).await.unwrap());
    assert!(store.load(&other_key).await.unwrap().is_none());
    stored(&store.save(&mut other_lease, 0, &other).await.unwrap());
    assert_eq!(store.load(&key).await.unwrap().unwrap().to_json(), record.to_json());
    store.release(lease).await;
    store.release(other_lease).await;
}

pub async fn the_right_is_one_processs_at_a_time(store: impl TokenStore) {
    let key = any().0;
    let (lease, _) = store.acquire(&key, soon()).await.unwrap();
    let deadline = Instant::now() + Duration::from_millis(200);
    let refused = store.acquire(&key, deadline).await.map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Timeout, "{refused}");
    assert!(Instant::now() >= deadline, "it did not wait");
    let (next, ()) = join!(store.acquire(&key, soon()), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        store.release(lease).await;
    });
    store.release(next.unwrap().0).await;
}

pub async fn a_right_that_is_dropped_comes_back(store: impl TokenStore) {
    let key = any().0;
    let (lease, _) = store.acquire(&key, soon()).await.unwrap();
    drop(lease);
    let patient = Instant::now() + Duration::from_secs(60);
    let (lease, _) = store.acquire(&key, patient).await.unwrap();
    store.release(lease).await;
}

pub async fn a_wait_that_is_given_up_changes_nothing(store: impl TokenStore) {
    let (key, record) = any();
    let (mut lease, _) = store.acquire(&key, soon()).await.unwrap();
    for _ in 0..5 {
        let wait = store.acquire(&key, soon());
        assert!(tokio::time::timeout(Duration::from_millis(30), wait).await.is_err());
    }
    stored(&store.save(&mut lease, 0, &record).await.unwrap());
    store.release(lease).await;
    let (lease, found) = store.acquire(&key, soon()).await.unwrap();
    assert!(found.is_some());
    store.release(lease).await;
}

pub async fn the_next_one_sees_what_the_last_one_saved(store: impl TokenStore) {
    let (key, record) = any();
    let count = || async {
        for _ in 0..10 {
            let (mut lease, found) = store.acquire(&key, soon()).await.unwrap();
            let expected = found.map_or(0, |record| record.generation());
            tokio::task::yield_now().await;
            let next = with(&record, expected + 1, RecordState::Clean, "token");
            stored(&store.save(&mut lease, expected, &next).await.unwrap());
            store.release(lease).await;
        }
    };
    join!(count(), count(), count(), count());
    assert_eq!(store.load(&key).await.unwrap().unwrap().generation(), 40);
}

pub async fn a_large_record_is_kept(store: impl TokenStore) {
    let (key, record) = any();
    let large = with(&record, 1, RecordState::Clean, &"x".repeat(64 * 1024));
    let (mut lease, _) = store.acquire(&key, soon()).await.unwrap();
    stored(&store.save(&mut lease, 0, &large).await.unwrap());
    store.release(lease).await;
    assert_eq!(store.load(&key).await.unwrap().unwrap().to_json(), large.to_json());
}

pub async fn a_record_that_was_removed_is_gone(store: impl TokenStore) {
    let (key, record) = any();
    // One that is not there.
    store.remove(&key, soon()).await.unwrap();
    let (other_key, other) = any();
    for (key, record) in [(key, &record), (other_key, &other)] {
        let (mut lease, _) = store.acquire(&key, soon()).await.unwrap();
        stored(&store.save(&mut lease, 0, record).await.unwrap());
        let next = with(record, 2, RecordState::Clean, "second");
        stored(&store.save(&mut lease, 1, &next).await.unwrap());
        // Not under the hands of whoever renews it.
        let deadline = Instant::now() + Duration::from_millis(200);
        let refused = store.remove(&key, deadline).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Timeout, "{refused}");
        store.release(lease).await;
    }
    store.remove(&key, soon()).await.unwrap();
    assert!(store.load(&key).await.unwrap().is_none());
    assert!(store.load(&other_key).await.unwrap().is_some());
    // Then all begins anew, and the right was given back.
    let (mut lease, found) = store.acquire(&key, soon()).await.unwrap();
    assert!(found.is_none());
    stored(&store.save(&mut lease, 0, &record).await.unwrap());
    store.release(lease).await;
}

/// Whether a store hears of anything is its own affair; what it says must not depend on it.
pub async fn a_hint_is_a_hint(store: impl TokenStore) {
    let (key, record) = any();
    let hinted =
        |since| tokio::time::timeout(Duration::from_millis(100), store.changed(&key, since));
    // It may be dropped and called again, and keeps nobody from anything.
    for since in [0, 1, u64::MAX] {
        let _ = hinted(since).await;
    }
    let listening = async {
        for _ in 0..5 {
            let _ = hinted(0).await;
        }
    };
    let renewing = async {
        let (mut lease, _) = store.acquire(&key, soon()).await.unwrap();
        stored(&store.save(&mut lease, 0, &record).await.unwrap());
        store.release(lease).await;
        assert_eq!(store.load(&key).await.unwrap().unwrap().generation(), 1);
    };
    join!(listening, renewing);
    let _ = hinted(1).await;
    assert_eq!(store.load(&key).await.unwrap().unwrap().to_json(), record.to_json());
}

/// A record for a subject that nobody else has.
fn any() -> (Key, Record) {
    let subject: String = std::iter::repeat_with(fastrand::alphanumeric).take(20).collect();
    let identity = Identity::new("https://as.example/token", "conformance").subject(subject);
    let stamp = Stamp::new(&identity, "");
    let key = stamp.key();
    let (stamp, origin, state) = (Arc::new(stamp), None, RecordState::Clean);
    let bare = Record { stamp, origin, generation: 1, state, tokens: None };
    (key, with(&bare, 1, RecordState::Clean, "first"))
}

fn with(record: &Record, generation: u64, state: RecordState, token: &str) -> Record {
    let set = TokenSet::bearer(token)
        .unwrap()
        .with_refresh_token(format!("refresh {token}"))
        .with_lifetime(Duration::from_secs(3600));
    let tokens = Some(Tokens::new(set, SystemClock::new().now().wall));
    Record { generation, state, tokens, ..record.clone() }
}

fn stored(saved: &Saved) {
    assert!(matches!(saved, Saved::Stored), "{saved:?}");
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}
