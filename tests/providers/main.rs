//! What well-known providers really answer, and what it leads to.
//!
//! Each file of `answers/` is one answer: its status, its header fields, an empty line, its body.
//! They are written by hand after what the providers were seen to send; no token in them is real.

#![cfg(test)]

use log_watch as _;

mod answer;
mod refusals;
mod tokens;

use std::collections::BTreeSet;

/// An answer that nobody expects anything of would look tested.
#[test]
fn every_answer_stands_in_exactly_one_table() {
    let named: Vec<_> = tokens::answers().chain(refusals::answers()).collect();
    let unique: BTreeSet<_> = named.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(unique.len(), named.len(), "an answer is named twice");
    assert_eq!(unique, answer::all());
}
