//! A virtual day of clients, servers and stores in which everything goes wrong at random, and a
//! ledger that checks the invariants of the crate all along.
//!
//! Time is paused and nothing is real: no socket, no file, one thread. All chance comes from a
//! seed, so a day that fails can be seen again. CONTRIBUTING.md has how.
#![cfg(test)] // tells clippy that this is test code, which may unwrap and index
#![cfg(all(feature = "pool", feature = "store", feature = "testing", feature = "tracing"))]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]
#![allow(
    clippy::unchecked_time_subtraction,
    reason = "virtual time only grows; a panic would tell"
)]

use log_watch as _;

mod api;
mod caller;
mod canary;
#[path = "../common/mod.rs"]
mod common;
mod crowd;
mod day;
mod fate;
mod history;
mod issuer;
mod ledger;
mod load;
mod log;
mod options;
mod probe;
mod process;
mod store;
mod tenants;
mod upload;
mod weather;
mod world;

use std::{collections::BTreeMap, panic, time::Instant};

use common::dice;

/// Runs these seeds and fails with all that was found.
fn run_all(seeds: impl Iterator<Item = u64>) -> BTreeMap<&'static str, u64> {
    silence_simulated_panics();
    let (mut counts, mut failures, started) = (BTreeMap::new(), Vec::new(), Instant::now());
    let mut runs = 0;
    for seed in seeds {
        let run = day::run(seed);
        runs += 1;
        for (what, count) in &run.ledger.counts {
            *counts.entry(*what).or_default() += count;
        }
        if let Some(report) = run.ledger.report() {
            println!("{report}\n");
            failures.push(seed);
        }
    }
    println!("{runs} days in {:?}: {counts:#?}", started.elapsed());
    assert!(failures.is_empty(), "{} of {runs} days failed: {failures:?}", failures.len());
    counts
}

/// A panic that is meant is not to be seen.
fn silence_simulated_panics() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.payload_as_str() != Some(probe::SIMULATED) {
            usual(info);
        }
    }));
}

/// One seed, with its history if it was asked for by its number.
#[test]
fn f59_one_virtual_day_of_faults_keeps_every_invariant() {
    silence_simulated_panics();
    let seed = options::one_seed();
    let run = day::run(seed.unwrap_or(QUIET[0]));
    if seed.is_some() {
        println!("{}", run.ledger.history.before(usize::MAX, usize::MAX));
    }
    println!("{} lines logged, {} lines of history", run.log_lines, run.ledger.history.len());
    assert!(run.ledger.counts["log line lost"] > 100, "the log never failed");
    println!("{:#?}", run.ledger.counts);
    assert!(run.log_lines > 100, "nothing was logged");
    if let Some(report) = run.ledger.report() {
        panic!("{report}");
    }
}

#[test]
fn f59_a_seed_gives_the_same_day_each_time() {
    silence_simulated_panics();
    let [first, second] = [QUIET[1]; 2].map(|seed| {
        let run = day::run(seed);
        assert!(run.ledger.violations.is_empty(), "{:?}", run.ledger.report());
        (run.ledger.history.len(), run.ledger.history.digest())
    });
    assert_eq!(first, second);
}

/// What takes longer.
mod long {
    use super::*;

    /// The fixed seeds; or, with `SIMULATION_SEEDS=n`, so many others.
    #[test]
    fn f59_many_virtual_days_of_faults_keep_every_invariant() {
        match options::seeds() {
            None => drop(run_all(MANY)),
            Some(seeds) => drop(run_all(options::first()..options::first() + seeds)),
        }
    }
}

/// Days on which less happens than on others: those of the inner loop.
const QUIET: [u64; 2] = [41, 13];
const MANY: std::ops::Range<u64> = 20..24;
