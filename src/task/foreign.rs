//! Values of others, whose destructors may panic. Used for whatever a user's code gave us to keep.

use std::{fmt, ops::Deref};

use super::contain;

/// A value of a user's: a source, an error, a key. A panic in its `Drop` is discarded, wherever it is
/// dropped: while a lock is held, while the thread unwinds, or in the task of another user.
pub(crate) struct Foreign<T>(Option<T>);

impl<T> Foreign<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for Foreign<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.0.as_ref().expect("the value is taken out on drop only")
    }
}

impl<T> Drop for Foreign<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        contain(|| drop(value));
    }
}

impl<T: fmt::Debug> fmt::Debug for Foreign<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb(u8);

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    #[test]
    fn a_panic_of_a_destructor_ends_where_the_value_is_dropped() {
        let bombs = [Foreign::new(Bomb(1)), Foreign::new(Bomb(2))];
        assert_eq!(bombs.iter().map(|bomb| (**bomb).0).sum::<u8>(), 3);
        drop(bombs);
        let unwound = contain(|| {
            let _bombs = [Foreign::new(Bomb(3)), Foreign::new(Bomb(4))];
            panic!("outer");
        });
        assert_eq!(unwound, None::<()>);
    }
}
