use std::{fmt, sync::Arc};

use http::{Extensions, HeaderMap, StatusCode};

use crate::{http::HttpResponse, task::contain};

/// The head of a response, for a classifier of the user's: see
/// [`OAuthLayer::refused_if`](super::OAuthLayer::refused_if).
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ResponseHead<'a> {
    /// The status code.
    pub status: StatusCode,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// What services below the layer have noted about the response.
    pub extensions: &'a Extensions,
}

type Classifier = dyn Fn(ResponseHead<'_>) -> bool + Send + Sync;

/// What counts as a refusal of the token besides what the standards say.
#[derive(Clone, Default)]
pub(super) struct RefusedBy {
    statuses: Arc<[u16]>,
    classifier: Option<Arc<Classifier>>,
    /// Whether there is anything to ask: read for every response.
    any: bool,
}

impl RefusedBy {
    pub(super) fn set_statuses(&mut self, statuses: impl IntoIterator<Item = u16>) {
        self.statuses = statuses.into_iter().filter(|status| *status >= 400).collect();
        self.any = !self.statuses.is_empty() || self.classifier.is_some();
    }

    pub(super) fn set_classifier(
        &mut self,
        refused: impl Fn(ResponseHead<'_>) -> bool + Send + Sync + 'static,
    ) {
        self.classifier = Some(Arc::new(refused));
        self.any = true;
    }

    /// Whether this response refuses the token.
    #[inline]
    pub(super) fn matches(&self, response: &impl HttpResponse) -> bool {
        self.any && self.ask(response)
    }

    /// Whether this response refuses the token, whose challenges may explain it in another way: that
    /// counts for more than the status, and for less than what the user's classifier says.
    pub(super) fn matches_challenged(
        &self,
        response: &impl HttpResponse,
        is_explained: bool,
    ) -> bool {
        self.any && (self.is_classified(response) || !is_explained && self.has_status(response))
    }

    #[cold]
    fn ask(&self, response: &impl HttpResponse) -> bool {
        self.has_status(response) || self.is_classified(response)
    }

    fn has_status(&self, response: &impl HttpResponse) -> bool {
        self.statuses.contains(&response.status().as_u16())
    }

    /// Whether the classifier says so. One that panics says nothing.
    fn is_classified(&self, response: &impl HttpResponse) -> bool {
        let head = ResponseHead {
            status: response.status(),
            headers: response.headers(),
            extensions: response.extensions(),
        };
        let ask = |refused: &Arc<Classifier>| contain(|| refused(head)).unwrap_or(false);
        self.classifier.as_ref().is_some_and(ask)
    }
}

impl fmt::Debug for RefusedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusedBy")
            .field("statuses", &self.statuses)
            .field("classifier", &self.classifier.is_some())
            .finish_non_exhaustive()
    }
}
