//! What is run, as the environment says.

use std::env;

/// One seed, to be run with its history printed: `SIMULATION_SEED=n`.
pub(crate) fn one_seed() -> Option<u64> {
    number("SIMULATION_SEED")
}

/// How many seeds: `SIMULATION_SEEDS=n`.
pub(crate) fn seeds() -> Option<u64> {
    number("SIMULATION_SEEDS")
}

/// The first of them: `SIMULATION_FIRST=n`.
pub(crate) fn first() -> u64 {
    number("SIMULATION_FIRST").unwrap_or(FIRST_RANDOM)
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is to be a number, not {text:?}")))
}

/// How to see a seed again.
pub(crate) fn replay(seed: u64) -> String {
    format!(
        "SIMULATION_SEED={seed} cargo nextest run --all-features --no-capture \
         -E 'binary(simulation) & test(f59_one_virtual_day)'"
    )
}

/// The seeds below are those of the fixed sets.
const FIRST_RANDOM: u64 = 1000;
