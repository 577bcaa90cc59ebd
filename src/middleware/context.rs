use std::{sync::Arc, time::Duration};

use super::{Origins, refused_by::RefusedBy};
use crate::{
    error::{Error, ErrorKind},
    refresh::TokenHandle,
    source::StepUp,
};

/// What to do with a request that already has an `Authorization` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ExistingAuthorization {
    /// Send the request as it is. The caller knows better.
    #[default]
    Keep,
    /// Put the token in its place.
    Replace,
    /// Fail with [`ErrorKind::AuthorizationPresent`].
    Refuse,
}

/// What to do with a request to an origin that was not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ForeignOrigin {
    /// Send the request without the token.
    #[default]
    PassWithoutToken,
    /// Fail with [`ErrorKind::Origin`].
    Refuse,
}

/// What every clone of a service reads: one copy for each shard of threads.
#[derive(Debug, Clone)]
pub(super) struct Context<T = TokenHandle> {
    pub(super) tokens: T,
    pub(super) origins: Arc<Origins>,
    pub(super) options: Options,
}

#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) existing: ExistingAuthorization,
    pub(super) foreign: ForeignOrigin,
    pub(super) wait: Duration,
    pub(super) bare_401_min_age: Duration,
    pub(super) step_up: bool,
    pub(super) claims: bool,
    pub(super) refused_by: RefusedBy,
    pub(super) expose_token: bool,
}

impl Options {
    /// Whether a token is fetched that has what an API says is lacking.
    pub(super) fn allows(&self, step_up: &StepUp) -> bool {
        (self.step_up || step_up.scopes.is_empty()) && (self.claims || step_up.claims.is_none())
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            existing: ExistingAuthorization::default(),
            foreign: ForeignOrigin::default(),
            wait: Duration::from_secs(30),
            bare_401_min_age: Duration::from_secs(10),
            step_up: false,
            claims: false,
            refused_by: RefusedBy::default(),
            expose_token: false,
        }
    }
}

/// Why a request gets no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exempt {
    /// It goes to an origin that was not allowed.
    Foreign,
    /// It has an `Authorization` header, which is not to be replaced.
    Present,
}

impl<T> Context<T> {
    /// Whether the token takes the place of an `Authorization` header.
    pub(super) fn replaces(&self) -> bool {
        self.options.existing == ExistingAuthorization::Replace
    }

    /// Why a request that gets no token fails; `None` if it is sent as it is.
    pub(super) fn refusal(&self, exempt: Exempt) -> Option<Error> {
        let refuse_foreign = self.options.foreign == ForeignOrigin::Refuse;
        let refuse_present = self.options.existing == ExistingAuthorization::Refuse;
        match exempt {
            Exempt::Foreign if refuse_foreign => Some(Error::new(
                ErrorKind::Origin,
                "the request goes to an origin that the layer was not given",
            )),
            Exempt::Present if refuse_present => Some(Error::new(
                ErrorKind::AuthorizationPresent,
                "the request already has an authorization header; the layer is to set it",
            )),
            _ => None,
        }
    }
}
