use std::collections::BTreeMap;

use super::{
    chunks::Chunks,
    lists::{EMPTY, Head, Lists},
};

/// What would be lost with a tenant: the less, the sooner it makes room for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// It never had a token.
    Nothing,
    /// A token, which its source can fetch again.
    Token,
    /// A refresh token: the tenant's session.
    Session,
}

/// Who was used when, to the second, as far as it was noticed, and what each is worth. A use is noticed
/// late, never early: whoever is first here, and was not used since, is the least recently used of
/// all that are worth the same.
#[derive(Debug)]
pub(super) struct Recency {
    by_mark: BTreeMap<u32, Head>,
    lists: Lists,
    noted: Chunks<u32>,
}

impl Recency {
    pub(super) fn new() -> Self {
        Self { by_mark: BTreeMap::new(), lists: Lists::new(), noted: Chunks::new() }
    }

    /// When the last use of a tenant was that was noticed.
    pub(super) fn noted(&self, id: u32) -> u32 {
        self.mark(id) & SECONDS
    }

    fn mark(&self, id: u32) -> u32 {
        self.noted.get(id).copied().unwrap_or_default()
    }

    /// Puts a tenant in as used at `second`.
    pub(super) fn insert(&mut self, id: u32, second: u32, worth: Worth) {
        let mark = mark(second, worth);
        if let Some(noted) = self.noted.at(id) {
            *noted = mark;
        }
        self.lists.push(self.by_mark.entry(mark).or_insert(EMPTY), id);
    }

    /// Notes a use, or that a tenant is worth something else now.
    pub(super) fn note(&mut self, id: u32, second: u32, worth: Worth) {
        if self.mark(id) != mark(second, worth) {
            self.remove(id);
            self.insert(id, second, worth);
        }
    }

    /// Takes a tenant out.
    pub(super) fn remove(&mut self, id: u32) {
        let mark = self.mark(id);
        let Some(head) = self.by_mark.get_mut(&mark) else { return };
        self.lists.remove(head, id);
        if *head == EMPTY {
            self.by_mark.remove(&mark);
        }
    }

    /// One of those that were used least recently, of those that are worth so much.
    pub(super) fn oldest(&self, worth: Worth) -> Option<u32> {
        let marks = mark(0, worth)..=mark(SECONDS, worth);
        Some(*self.by_mark.range(marks).next()?.1)
    }
}

/// A second, with the worth in the bits above it.
fn mark(second: u32, worth: Worth) -> u32 {
    second.min(SECONDS) | (worth as u32) << 30
}

/// Thirty-four years of them.
const SECONDS: u32 = (1 << 30) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_comes_first() {
        let mut recency = Recency::new();
        for (id, second) in [(1, 20), (2, 10), (3, 10)] {
            recency.insert(id, second, Worth::Token);
        }
        for expected in [3, 2, 1] {
            assert_eq!(recency.oldest(Worth::Token), Some(expected));
            recency.remove(expected);
        }
        assert_eq!(recency.oldest(Worth::Token), None);
        recency.remove(1);
    }

    #[test]
    fn each_is_found_among_those_of_its_worth() {
        let mut recency = Recency::new();
        let worths = [Worth::Nothing, Worth::Token, Worth::Session];
        for (id, worth) in (1..).zip(worths) {
            recency.insert(id, u32::MAX, worth);
        }
        assert_eq!(worths.map(|worth| recency.oldest(worth)), [Some(1), Some(2), Some(3)]);
        recency.note(1, 7, Worth::Session);
        assert_eq!(worths.map(|worth| recency.oldest(worth)), [None, Some(2), Some(1)]);
        assert_eq!(recency.noted(1), 7);
    }
}
