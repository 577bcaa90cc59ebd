use std::{sync::Arc, time::Duration};

use http::header::AUTHORIZATION;

use super::Origins;
use crate::{
    error::{Error, ErrorKind},
    http::HttpRequest,
    refresh::TokenHandle,
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

#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) existing: ExistingAuthorization,
    pub(super) foreign: ForeignOrigin,
    pub(super) wait: Duration,
    pub(super) bare_401_min_age: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            existing: ExistingAuthorization::default(),
            foreign: ForeignOrigin::default(),
            wait: Duration::from_secs(30),
            bare_401_min_age: Duration::from_secs(10),
        }
    }
}

/// Whether a request gets a token.
pub(super) enum Admission {
    Inject,
    PassAsItIs,
    Refuse(Error),
}

impl<T> Context<T> {
    /// Judged on every pass: a redirect follower above calls for each hop.
    pub(super) fn admit(&self, request: &impl HttpRequest) -> Admission {
        if !self.origins.allow(request.target()) {
            return match self.options.foreign {
                ForeignOrigin::PassWithoutToken => Admission::PassAsItIs,
                ForeignOrigin::Refuse => Admission::Refuse(Error::new(
                    ErrorKind::Origin,
                    "the request goes to an origin that the layer was not given",
                )),
            };
        }
        if !request.headers().contains_key(AUTHORIZATION) {
            return Admission::Inject;
        }
        match self.options.existing {
            ExistingAuthorization::Keep => Admission::PassAsItIs,
            ExistingAuthorization::Replace => Admission::Inject,
            ExistingAuthorization::Refuse => Admission::Refuse(Error::new(
                ErrorKind::AuthorizationPresent,
                "the request already has an authorization header; the layer is to set it",
            )),
        }
    }
}
