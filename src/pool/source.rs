//! The source of a tenant: made on the task of its first fetch, dropped wherever its tenant is.

use std::sync::{Arc, OnceLock};

use super::{shared::Make, tenant::Tenant};
use crate::{
    error::Error,
    source::{DynTokenSource, FetchContext, TokenSource},
    task::Foreign,
    token::TokenSet,
};

/// A user's source. It may be dropped by the keeper, or in a request of another tenant.
pub(super) struct Made<T>(Foreign<T>);

impl<T> Made<T> {
    pub(super) fn new(source: T) -> Self {
        Self(Foreign::new(source))
    }
}

impl<T: TokenSource> TokenSource for Made<T> {
    // The future itself, which may panic when it is dropped: not within one of ours.
    fn fetch(&self, cx: FetchContext) -> impl Future<Output = Result<TokenSet, Error>> + Send {
        self.0.fetch(cx)
    }
}

/// A source that is made when it is first asked: on the fetch's task, where it may take its time
/// and where a panic is caught.
pub(super) struct Unmade<K> {
    pub(super) tenant: Arc<Tenant<K>>,
    pub(super) make: Arc<Make<K>>,
    pub(super) made: Arc<OnceLock<Arc<dyn DynTokenSource>>>,
}

impl<K: Send + Sync + 'static> TokenSource for Unmade<K> {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        let source = self.made.get_or_init(|| (self.make)(&self.tenant.key)).clone();
        DynTokenSource::fetch(&*source, cx).await
    }
}
