//! What stands in for proofs where there are none: without the feature `dpop`.

use std::time::SystemTime;

use super::Origins;
use crate::{
    error::Error,
    http::{HttpRequest, HttpResponse},
    refresh::Token,
};

/// Nobody.
#[derive(Debug)]
pub(super) enum Prover {}

impl Prover {
    #[expect(clippy::unnecessary_wraps, reason = "a proof can fail, where there are proofs")]
    pub(super) fn prove(
        _: &Origins,
        _: &mut impl HttpRequest,
        _: &Token,
        _: SystemTime,
    ) -> Result<Option<Self>, Error> {
        Ok(None)
    }

    pub(super) fn learn(&self, _: &impl HttpResponse) {
        match *self {}
    }

    pub(super) fn has_nonce(&self, _: &impl HttpResponse) -> bool {
        match *self {}
    }

    pub(super) fn correct_clock(&self, _: &impl HttpResponse, _: SystemTime) -> bool {
        match *self {}
    }
}
