//! What stands in for proofs where there are none: without the feature `dpop`.

use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Uri};

use super::Accepted;
use crate::{discovery::Metadata, error::Error};

/// Nobody.
pub(super) enum Prover {}

impl Prover {
    pub(super) fn new(_: &Accepted, _: &Uri) -> Option<Self> {
        None
    }

    pub(super) fn check(&self, _: Option<&Metadata>) -> Result<(), Error> {
        match *self {}
    }

    pub(super) fn prove(&self, _: SystemTime) -> Result<HeaderValue, Error> {
        match *self {}
    }

    pub(super) fn learn(&self, _: &HeaderMap, _: Option<&Error>, _: SystemTime) -> bool {
        match *self {}
    }
}
