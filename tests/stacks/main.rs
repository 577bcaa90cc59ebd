//! Random stacks of real layers over real clients and sockets, against servers that misbehave.
//!
//! A seed decides the stack, the requests and the answers, but not the order in which tasks and
//! sockets are ready: a seed that fails shows its fault nearly every time. CONTRIBUTING.md says how to
//! run one again.
#![cfg(test)] // tells clippy that this is test code, which may unwrap and index
#![cfg(all(feature = "pool", feature = "reqwest"))]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]
#![allow(clippy::cast_possible_truncation, reason = "numbers of a run are small")]

use log_watch as _;

mod broken;
mod caller;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod draw;
mod fixed;
mod layers;
mod ledger;
mod middle;
mod options;
mod run;
mod server;
mod source;
mod story;
mod tap;
mod terms;
mod wire;

use std::{ops::Range, sync::Arc};

use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use self::{
    broken::Fault,
    ledger::Invariant,
    run::{Report, Subject, run},
};

/// Runs all of these, some at a time, and returns what was found in the same order.
async fn run_all(subjects: impl IntoIterator<Item = (u64, Subject)>) -> Vec<Report> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut runs = JoinSet::new();
    for (number, (seed, subject)) in subjects.into_iter().enumerate() {
        let place = places.clone().acquire_owned().await.unwrap();
        runs.spawn(async move {
            let report = run(seed, subject).await;
            drop(place);
            (number, report)
        });
    }
    let mut reports = runs.join_all().await;
    reports.sort_by_key(|(number, _)| *number);
    reports.into_iter().map(|(_, report)| report).collect()
}

/// Runs these and fails with all that was found. Returns how many requests were sent again.
async fn check(test: &str, subjects: Vec<(u64, Subject)>) -> usize {
    let started = Instant::now();
    let single = options::is_single();
    let reports = run_all(subjects).await;
    let (mut failed, mut replays, mut answers) = (Vec::new(), 0, 0);
    for report in &reports {
        replays += report.counts.replays;
        answers += report.counts.answers;
        let fails = !report.violations.is_empty();
        if fails || single {
            println!("{report}");
        }
        if fails {
            println!("{}\n", options::replay(test, report.seed));
            failed.push(report.seed);
        }
    }
    let time = started.elapsed();
    println!("{} stacks, {answers} answers, {replays} replays in {time:?}", reports.len());
    assert!(failed.is_empty(), "{} of {} stacks failed: {failed:?}", failed.len(), reports.len());
    replays
}

fn each(seeds: Range<u64>, subject: Subject) -> Vec<(u64, Subject)> {
    options::seeds(seeds).map(|seed| (seed, subject)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_stacks_keep_every_invariant() {
    let stacks = each(FEW, Subject::Drawn);
    let number = stacks.len();
    let replays = check("random_stacks_keep_every_invariant", stacks).await;
    // Without replays there is little to see.
    assert!(number < 10 || replays > number, "{replays} replays in {number} stacks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typed_compositions_keep_every_invariant() {
    let composed = |composition| each(COMPOSED, Subject::Composed(composition));
    check(
        "typed_compositions_keep_every_invariant",
        fixed::COMPOSITIONS.iter().flat_map(composed).collect(),
    )
    .await;
}

/// What takes longer.
mod long {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_random_stacks_keep_every_invariant() {
        check("long::many_random_stacks_keep_every_invariant", each(MANY, Subject::Drawn)).await;
    }
}

/// A tester that finds nothing shows nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_broken_layer_is_caught() {
    let faults = [
        (Fault::Truncates, Invariant::I1),
        (Fault::Leaks, Invariant::I4),
        (Fault::SendsThrice, Invariant::I1),
        (Fault::SendsTwice, Invariant::I1),
        (Fault::Hangs, Invariant::I1),
        (Fault::Untokened, Invariant::Token),
        (Fault::Stale, Invariant::I2),
        (Fault::Replaces, Invariant::Token),
        (Fault::SkipsReadiness, Invariant::I1),
        (Fault::KeepsPlaces, Invariant::I12),
        (Fault::ChangesAnswers, Invariant::I1),
        (Fault::AlwaysFetches, Invariant::I6),
        (Fault::LosesRefusals, Invariant::I1),
    ];
    let runs =
        faults.iter().flat_map(|(fault, _)| [1, 2].map(|seed| (seed, Subject::Broken(*fault))));
    let reports = run_all(runs).await;
    for ((fault, expected), reports) in faults.iter().zip(reports.chunks(2)) {
        let found: Vec<_> = reports.iter().flat_map(|report| &report.violations).collect();
        println!("{fault:?}: {:?}", found.first());
        let caught = found.iter().any(|(invariant, _)| invariant == expected);
        assert!(caught, "{fault:?} was not caught: {found:?}");
    }
}

/// Nothing that the layers of tower or the clients do is held against ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_without_a_fault_is_not_caught_in_any_stack() {
    check("a_layer_without_a_fault_is_not_caught_in_any_stack", each(SOUND, Subject::Sound)).await;
}

/// More would take turns on two processors.
const AT_ONCE: usize = 8;
const FEW: Range<u64> = 1..33;
const SOUND: Range<u64> = 1..9;
const COMPOSED: Range<u64> = 1..5;
const MANY: Range<u64> = 100..220;
