/// A vector that grows by a chunk, never by moving what it holds: with a million tenants, that would
/// hold up everybody who waits for the lock around it.
#[derive(Debug)]
pub(super) struct Chunks<T>(Vec<Vec<T>>);

impl<T> Chunks<T> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn len(&self) -> u32 {
        let full = self.0.len().saturating_sub(1) * CHUNK;
        u32::try_from(full + self.0.last().map_or(0, Vec::len)).unwrap_or(u32::MAX)
    }

    pub(super) fn push(&mut self, value: T) {
        if self.0.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.0.push(Vec::with_capacity(CHUNK));
        }
        if let Some(chunk) = self.0.last_mut() {
            chunk.push(value);
        }
    }

    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let index = index as usize;
        self.0.get(index / CHUNK)?.get(index % CHUNK)
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let index = index as usize;
        self.0.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }

    /// The value at `index`, which is made if need be, with all before it.
    pub(super) fn at(&mut self, index: u32) -> Option<&mut T>
    where
        T: Default,
    {
        while self.len() <= index {
            self.push(T::default());
        }
        self.get_mut(index)
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = T> {
        self.0.into_iter().flatten()
    }
}

/// So that a small pool is small, and the list of a large one's chunks is too.
const CHUNK: usize = 256;
