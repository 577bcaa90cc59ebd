//! Panics of code that is not ours: observers, token sources, log subscribers, metrics recorders.

use std::{
    any::Any,
    fmt,
    future::Future,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

/// Runs code of others. Returns `None` if it panicked.
///
/// It may be called while the thread unwinds: the inner panic ends here, and the outer one goes on.
pub(crate) fn contain<T>(foreign: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(foreign)).map_err(discard).ok()
}

/// Drops what a panic carries, which is code of others as well: its `Drop` may panic again.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(another);
    }
}

/// A future of others. Returns `None` if it panicked; a panic while it is dropped is discarded, and
/// so costs neither its output nor more than itself.
pub(crate) struct Contained<'a, T>(Option<Inner<'a, T>>);

type Inner<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl<'a, T> Contained<'a, T> {
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'a) -> Self {
        Self(Some(Box::pin(future)))
    }

    fn end(&mut self) {
        let future = self.0.take();
        contain(|| drop(future));
    }
}

impl<T> Future for Contained<'_, T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(future) = &mut self.0 else { return Poll::Ready(None) };
        match contain(|| future.as_mut().poll(cx)) {
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(output)) => {
                self.end();
                Poll::Ready(Some(output))
            }
            None => {
                self.end();
                Poll::Ready(None)
            }
        }
    }
}

impl<T> Drop for Contained<'_, T> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<T> fmt::Debug for Contained<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Contained")
    }
}

#[cfg(test)]
mod tests {
    use std::{future::ready, panic::panic_any};

    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    /// A future that owns what panics when it is dropped.
    struct Owner<T>(T, Bomb);

    impl<T: Unpin + Future> Future for Owner<T> {
        type Output = T::Output;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T::Output> {
            Pin::new(&mut self.0).poll(cx)
        }
    }

    #[test]
    fn a_panic_ends_where_it_is_contained_whatever_it_carries() {
        assert_eq!(contain(|| 7), Some(7));
        assert_eq!(contain(|| panic!("foreign")), None::<()>);
        assert_eq!(contain(|| panic_any(Bomb)), None::<()>);
    }

    #[test]
    fn a_panic_is_contained_while_the_thread_unwinds() {
        struct Emits;
        impl Drop for Emits {
            fn drop(&mut self) {
                assert_eq!(contain(|| panic!("in a destructor")), None::<()>);
            }
        }
        let outer = catch_unwind(|| {
            let _emits = Emits;
            panic!("outer");
        });
        assert_eq!(outer.unwrap_err().downcast_ref(), Some(&"outer"));
    }

    #[tokio::test]
    async fn a_future_that_panics_on_drop_has_given_its_output() {
        assert_eq!(Contained::new(Owner(ready(7), Bomb)).await, Some(7));
        assert_eq!(Contained::new(async { panic!("polled") }).await, None::<()>);
        drop(Contained::new(Owner(std::future::pending::<()>(), Bomb)));
    }
}
