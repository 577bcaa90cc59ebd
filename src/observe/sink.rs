use std::{fmt, future::Future, sync::Arc};

#[cfg(feature = "tracing")]
use super::trace;
use super::{Event, FetchReason, Observer};
#[cfg(feature = "metrics")]
use super::{live::Life, measure};
use crate::{error::Error, task::contain};

/// Where events go: to `tracing`, to the metrics recorder, and to the user's observer.
#[derive(Clone)]
pub(crate) struct Sink {
    name: Arc<str>,
    #[cfg(feature = "metrics")]
    many: bool,
    #[cfg(feature = "metrics")]
    life: Arc<Life>,
    observer: Option<Arc<Guarded>>,
}

/// The user's observer, whose destructor may panic: it runs where the last handle is dropped.
struct Guarded(Option<Box<dyn Observer>>);

impl Drop for Guarded {
    fn drop(&mut self) {
        let observer = self.0.take();
        contain(|| drop(observer));
    }
}

impl Sink {
    /// The sink of one token.
    pub(crate) fn one() -> Self {
        Self {
            name: Arc::from("default"),
            #[cfg(feature = "metrics")]
            many: false,
            #[cfg(feature = "metrics")]
            life: Arc::default(),
            observer: None,
        }
    }

    /// The sink of the tokens of many tenants.
    #[cfg(feature = "pool")]
    pub(crate) fn many() -> Self {
        Self {
            #[cfg(feature = "metrics")]
            many: true,
            ..Self::one()
        }
    }

    pub(crate) fn set_name(&mut self, name: impl Into<Arc<str>>) {
        self.name = name.into();
    }

    pub(crate) fn set_observer(&mut self, observer: impl Observer) {
        self.observer = Some(Arc::new(Guarded(Some(Box::new(observer)))));
    }

    /// Emits an event. A log that cannot be written, a metrics recorder and an observer only look
    /// on: a panic of one of them ends here, so that the refresher goes on, and so that an event
    /// that is emitted while a task unwinds does not abort the process.
    pub(crate) fn emit(&self, event: &Event<'_>) {
        #[cfg(feature = "tracing")]
        contain(|| trace::event(&self.name, event));
        #[cfg(feature = "metrics")]
        contain(|| measure::event(&self.name, &self.life, self.many, event));
        if let Some(Guarded(Some(observer))) = self.observer.as_deref() {
            contain(|| observer.event(event));
        }
    }

    /// Puts a fetch into a span of its own, if there is `tracing`.
    pub(crate) fn spanned<T, F>(
        &self,
        reason: FetchReason,
        fetch: F,
    ) -> impl Future<Output = F::Output> + use<T, F>
    where
        F: Future<Output = Result<T, Error>>,
    {
        #[cfg(feature = "tracing")]
        let fetch = trace::fetch(&self.name, reason, fetch);
        #[cfg(not(feature = "tracing"))]
        let _ = (self, reason);
        fetch
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sink").field(&self.name).finish()
    }
}

/// Tells that metadata could not be had. It belongs to no handle, so no observer is told.
pub(crate) fn metadata_failed(error: &Error, holds_copy: bool) {
    #[cfg(feature = "tracing")]
    contain(|| trace::metadata_failed(error, holds_copy));
    let _ = (error, holds_copy);
}
