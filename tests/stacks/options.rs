//! Reads from the environment which seeds to run.

use std::{env, ops::Range};

/// Returns the seeds that `STACKS_FIRST` and `STACKS_SEEDS` ask for. Default: `fixed`.
pub(crate) fn seeds(fixed: Range<u64>) -> Range<u64> {
    match (number("STACKS_FIRST"), number("STACKS_SEEDS")) {
        (None, None) => fixed,
        (first, seeds) => {
            let first = first.unwrap_or(FIRST_RANDOM);
            first..first + seeds.unwrap_or(1)
        }
    }
}

/// Returns whether one seed was asked for: its history is printed even when it succeeds.
pub(crate) fn is_single() -> bool {
    seeds(0..0).count() == 1
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

/// Returns the command that runs a seed again.
pub(crate) fn replay(test: &str, seed: u64) -> String {
    format!(
        "STACKS_FIRST={seed} STACKS_SEEDS=1 cargo nextest run --all-features --profile all \
         --no-capture -E 'binary(stacks) & test(={test})'"
    )
}

/// The seeds below belong to the fixed sets.
const FIRST_RANDOM: u64 = 1000;
