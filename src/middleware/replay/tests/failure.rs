//! Bodies that fail, panic, or are dropped before their end.

use super::*;

fn error_of(permit: &ReplayPermit<Scripted>) -> String {
    chain(&ReplayBody::again(permit).expect_err("it is not sent again"))
}

#[test]
fn f83_a_body_that_failed_is_not_sent_again_as_if_it_were_whole() {
    let (mut first, permit) =
        recording(scripted([data("first,"), data("second,"), Does::Fail]), 100);
    assert_eq!(poll(&mut first), text("first,"));
    assert_eq!(poll(&mut first), text("second,"));
    for _ in 0..3 {
        assert_eq!(poll(&mut first), Polled::Error(DISK.into()));
        assert!(!first.is_end_stream());
    }
    assert_eq!(error_of(&permit), DISK);
    drop(first);
    assert_eq!(error_of(&permit), DISK);
}

#[test]
fn f83_a_body_that_fails_in_the_second_attempt_fails_that() {
    let (mut first, permit) = recording(scripted([data("a"), Does::Wait, Does::Fail]), 100);
    assert_eq!((poll(&mut first), poll(&mut first)), (text("a"), Polled::Pending));
    let mut second = again(&permit);
    assert_eq!(poll(&mut second), text("a"));
    assert_eq!(poll(&mut second), Polled::Error(DISK.into()));
    assert_eq!(error_of(&permit), DISK);
}

#[test]
fn f83_a_body_too_large_to_be_recorded_reports_its_failure_too() {
    let (mut first, permit) = recording(scripted([data("large"), Does::Fail]), 1);
    assert_eq!(poll(&mut first), text("large"));
    assert!(ReplayBody::again(&permit).unwrap().is_none());
    assert_eq!(poll(&mut first), Polled::Error(DISK.into()));
    assert_eq!(error_of(&permit), DISK);
}

#[test]
fn f83_a_body_that_panicked_is_not_sent_again() {
    let (mut first, permit) = recording(scripted([data("a"), Does::Panic, data("b")]), 100);
    assert_eq!(poll(&mut first), text("a"));
    catch_unwind(AssertUnwindSafe(|| poll(&mut first))).unwrap_err();
    assert!(error_of(&permit).contains("panicked"));
    let Polled::Error(error) = poll(&mut first) else { panic!("it ends as if it were whole") };
    assert!(error.contains("panicked"));
}

#[test]
fn f83_a_panic_in_the_hands_of_the_first_attempt_reaches_the_second() {
    let permit = Arc::new(Mutex::new(None));
    let second = Arc::new(Mutex::new(None));
    let meanwhile = {
        let (permit, second) = (permit.clone(), second.clone());
        move || {
            let mut attempt = again(permit.lock().unwrap().as_ref().unwrap());
            assert_eq!(poll(&mut attempt), Polled::Pending);
            *second.lock().unwrap() = Some(attempt);
        }
    };
    let (mut first, kept) = recording(scripted([Does::Run(Box::new(meanwhile)), Does::Panic]), 100);
    *permit.lock().unwrap() = Some(kept);
    catch_unwind(AssertUnwindSafe(|| poll(&mut first))).unwrap_err();
    let mut second = second.lock().unwrap().take().unwrap();
    assert!(second.is_woken());
    assert!(matches!(poll(&mut second), Polled::Error(_)));
}

/// Dropped by a connection that broke, or by a client that had its answer.
#[test]
fn f83_a_body_dropped_before_its_end_is_sent_again_whole() {
    for read in 0..4 {
        let (mut first, permit) = recording(scripted([data("a"), data("b"), data("c")]), 100);
        for _ in 0..read {
            poll(&mut first);
        }
        drop(first);
        assert_eq!(rest(&mut again(&permit)), "abc", "{read}");
    }
}
