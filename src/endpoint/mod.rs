//! One request to a token endpoint: the form, the exchange, and every way to read the answer.
//!
//! All readers are pure functions of bytes, and all they are given is untrusted.

mod answer;
mod builder;
mod caller;
mod codes;
mod disguise;
mod exchange;
mod failure;
mod form;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
mod impersonation;
mod issued;
mod object;
#[cfg(feature = "external-command")]
mod output;
mod pointer;
#[cfg_attr(not(feature = "dpop"), path = "no_prover.rs")]
mod prover;
mod redactor;
mod response;
mod revocation;
mod rfc3339;
mod salvage;
mod scope;
mod seconds;
mod settings;
#[cfg(test)]
mod tests;

pub(crate) use answer::{UnusableAnswer, refusal, unexpected};
pub use builder::EndpointBuilder;
pub(crate) use caller::{Caller, Exchanged};
pub(crate) use exchange::TokenEndpoint;
pub(crate) use form::{Form, Space};
pub(crate) use impersonation::Impersonation;
pub use issued::IssuedToken;
pub(crate) use object::{NotAnObject, Object, object_of};
#[cfg(feature = "external-command")]
pub(crate) use output::written_token;
pub(crate) use pointer::Pointer;
pub(crate) use response::{Accepted, Rules};
pub(crate) use revocation::{Revoker, TokenHint, nowhere_to_revoke};
pub(crate) use scope::MOST_SCOPES;
pub(crate) use settings::Settings;
