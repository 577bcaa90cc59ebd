/// Values with a number each, which is given to another value once the first is gone.
///
/// It grows by a chunk, never by moving what it holds: with a million values, that would hold up
/// everybody who waits for the lock around it.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// One more than the highest number that was ever given.
    pub(super) fn end(&self) -> u32 {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        u32::try_from(full + self.chunks.last().map_or(0, Vec::len)).unwrap_or(u32::MAX)
    }

    /// The number that the next value will have.
    pub(super) fn next(&self) -> u32 {
        self.free.last().copied().unwrap_or_else(|| self.end())
    }

    /// Adds a value under [`next`](Self::next).
    pub(super) fn insert(&mut self, value: T) {
        self.len += 1;
        if let Some(id) = self.free.pop() {
            if let Some(place) = self.place(id) {
                *place = Some(value);
            }
            return;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(Some(value));
        }
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.place(id)?.as_mut()
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        let value = self.place(id)?.take()?;
        self.free.push(id);
        self.len -= 1;
        Some(value)
    }

    /// Takes everything out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        let all = std::mem::replace(self, Self::new());
        all.chunks.into_iter().flatten().flatten()
    }

    fn place(&mut self, id: u32) -> Option<&mut Option<T>> {
        let id = id as usize;
        self.chunks.get_mut(id / CHUNK)?.get_mut(id % CHUNK)
    }
}

/// A small pool is small, and the page of chunks of a large one too.
const CHUNK: usize = 256;

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
        assert_eq!(slab.next(), 7);
        slab.insert(70);
        assert_eq!(slab.get_mut(7), Some(&mut 70));
        assert_eq!((slab.len(), slab.next()), (1000, 1000));
        assert_eq!(slab.drain().count(), 1000);
        assert_eq!((slab.len(), slab.next()), (0, 0));
    }
}
