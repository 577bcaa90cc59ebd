use std::mem;

use super::chunks::Chunks;

/// Values with a number each, which is given to another value once the first is gone.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Chunks<Place<T>>,
    /// The first of the places that are free; each knows the next.
    free: u32,
    len: usize,
}

#[derive(Debug)]
enum Place<T> {
    Taken(T),
    Free(u32),
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { places: Chunks::new(), free: NONE, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// One more than the highest number that was ever given.
    pub(super) fn end(&self) -> u32 {
        self.places.len()
    }

    /// The number that the next value will have.
    pub(super) fn next(&self) -> u32 {
        if self.free == NONE { self.end() } else { self.free }
    }

    /// Adds a value under [`next`](Self::next).
    pub(super) fn insert(&mut self, value: T) {
        self.len += 1;
        match self.places.get_mut(self.free) {
            Some(place) => {
                if let Place::Free(next) = mem::replace(place, Place::Taken(value)) {
                    self.free = next;
                }
            }
            None => self.places.push(Place::Taken(value)),
        }
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        match self.places.get_mut(id)? {
            Place::Taken(value) => Some(value),
            Place::Free(_) => None,
        }
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        let place = self.places.get_mut(id).filter(|place| matches!(place, Place::Taken(_)))?;
        let Place::Taken(value) = mem::replace(place, Place::Free(self.free)) else { return None };
        self.free = id;
        self.len -= 1;
        Some(value)
    }

    /// Takes everything out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        let all = mem::replace(self, Self::new());
        all.places.into_iter().filter_map(|place| match place {
            Place::Taken(value) => Some(value),
            Place::Free(_) => None,
        })
    }
}

const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_again_once_they_are_free() {
        let mut slab = Slab::new();
        for n in 0..1000 {
            assert_eq!(slab.next(), n);
            slab.insert(n);
        }
        assert_eq!((slab.len(), slab.end()), (1000, 1000));
        assert_eq!(slab.remove(7), Some(7));
        assert_eq!(slab.remove(7), None);
        assert_eq!(slab.get_mut(7), None);
        assert_eq!(slab.remove(300), Some(300));
        for expected in [300, 7, 1000] {
            assert_eq!(slab.next(), expected);
            slab.insert(expected * 10);
            assert_eq!(slab.get_mut(expected), Some(&mut (expected * 10)));
        }
        assert_eq!((slab.len(), slab.end()), (1001, 1001));
        assert_eq!(slab.drain().count(), 1001);
        assert_eq!((slab.len(), slab.next()), (0, 0));
    }
}
