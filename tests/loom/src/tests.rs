use loom::{model, sync::Arc, thread};

use super::*;

/// Runs the refresher beside the test, from a token of epoch 1.
fn start(publications: u64) -> (Arc<Shared>, thread::JoinHandle<()>) {
    let shared = Arc::new(Shared::holding(1));
    let refresher = shared.clone();
    (shared, thread::spawn(move || refresher.refresher(1, publications)))
}

#[test]
fn of_two_reports_at_once_one_is_acted_on() {
    model(|| {
        let (shared, refresher) = start(1);
        let other = shared.clone();
        let other = thread::spawn(move || other.reject(1));
        let mine = shared.reject(1);
        let accepted = [mine, other.join().unwrap()];
        refresher.join().unwrap();
        assert_eq!(accepted.iter().filter(|it| **it == Rejection::Accepted).count(), 1);
        assert_eq!(shared.read(), 2);
    });
}

#[test]
fn a_refused_token_is_not_read_again_and_its_successor_comes() {
    model(|| {
        let (shared, refresher) = start(1);
        let waiter = shared.clone();
        let waiter = thread::spawn(move || waiter.wait(1));
        assert_eq!(shared.reject(1), Rejection::Accepted);
        assert_ne!(shared.read(), 1);
        assert_eq!(shared.wait(1), 2);
        assert_eq!(waiter.join().unwrap(), 2);
        refresher.join().unwrap();
    });
}

#[test]
fn a_token_that_is_given_again_while_it_is_refused_does_not_come_back() {
    model(|| {
        let shared = Arc::new(Shared::holding(1));
        let refresher = shared.clone();
        let refresher = thread::spawn(move || refresher.publish(1, 2));
        assert_eq!(shared.reject(1), Rejection::Accepted);
        assert_ne!(shared.read(), 1);
        refresher.join().unwrap();
        assert_ne!(shared.read(), 1);
    });
}

#[test]
fn f73_a_fetch_that_ends_after_the_shutdown_brings_no_token_back() {
    model(|| {
        let shared = Arc::new(Shared::holding(1));
        let refresher = shared.clone();
        let refresher = thread::spawn(move || refresher.publish(EMPTY, 2));
        shared.close();
        assert_eq!(shared.read(), EMPTY);
        refresher.join().unwrap();
        assert_eq!(shared.read(), EMPTY);
    });
}

#[test]
fn a_late_report_leaves_a_newer_token_alone() {
    model(|| {
        let (shared, refresher) = start(1);
        let late = shared.clone();
        let late = thread::spawn(move || late.reject(1));
        shared.refresh();
        refresher.join().unwrap();
        // Whether the report came before the new token or after it.
        late.join().unwrap();
        assert_eq!(shared.read(), 2);
        assert_eq!(shared.reject(1), Rejection::Superseded);
        assert_eq!(shared.read(), 2);
    });
}

#[test]
fn a_refusal_while_a_fetch_is_under_way_loses_nobody() {
    model(|| {
        let (shared, refresher) = start(2);
        let asking = shared.clone();
        let asking = thread::spawn(move || {
            asking.refresh();
            asking.wait(1)
        });
        let first = asking.join().unwrap();
        shared.reject(first);
        let second = shared.wait(first);
        assert!((first, second) == (2, 3), "{first} {second}");
        refresher.join().unwrap();
    });
}
