//! One request to a token endpoint: the form, the exchange, and every way to read the answer.
//!
//! All readers are pure functions of bytes, and all they are given is untrusted.

mod answer;
mod exchange;
mod failure;
mod form;
mod object;
#[cfg_attr(not(feature = "dpop"), path = "no_prover.rs")]
mod prover;
mod response;
mod retry_after;
mod rfc3339;
mod scope;
mod seconds;
#[cfg(test)]
mod tests;

pub(crate) use exchange::TokenEndpoint;
pub(crate) use form::Form;
pub(crate) use response::{Accepted, Rules};
