use std::collections::BTreeMap;

use super::{
    chunks::Chunks,
    lists::{EMPTY, Head, Lists},
};

/// Who was used when, to the second, as far as it was noticed. A use is noticed late, never early:
/// whoever is first here, and was not used since, is the least recently used of all.
#[derive(Debug)]
pub(super) struct Recency {
    by_second: BTreeMap<u32, Head>,
    lists: Lists,
    noted: Chunks<u32>,
}

impl Recency {
    pub(super) fn new() -> Self {
        Self { by_second: BTreeMap::new(), lists: Lists::new(), noted: Chunks::new() }
    }

    /// When the last use of a tenant was that was noticed.
    pub(super) fn noted(&self, id: u32) -> u32 {
        self.noted.get(id).copied().unwrap_or_default()
    }

    /// Puts a tenant in as used at `second`.
    pub(super) fn insert(&mut self, id: u32, second: u32) {
        if let Some(noted) = self.noted.at(id) {
            *noted = second;
        }
        self.lists.push(self.by_second.entry(second).or_insert(EMPTY), id);
    }

    /// Takes a tenant out.
    pub(super) fn remove(&mut self, id: u32) {
        let second = self.noted(id);
        let Some(head) = self.by_second.get_mut(&second) else { return };
        self.lists.remove(head, id);
        if *head == EMPTY {
            self.by_second.remove(&second);
        }
    }

    /// One of those that were used least recently.
    pub(super) fn oldest(&self) -> Option<u32> {
        Some(*self.by_second.first_key_value()?.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_comes_first() {
        let mut recency = Recency::new();
        for (id, second) in [(1, 20), (2, 10), (3, 10)] {
            recency.insert(id, second);
        }
        for expected in [3, 2, 1] {
            assert_eq!(recency.oldest(), Some(expected));
            recency.remove(expected);
        }
        assert_eq!(recency.oldest(), None);
        recency.remove(1);
    }
}
