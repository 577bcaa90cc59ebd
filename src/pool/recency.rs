use std::collections::BTreeMap;

/// Who was used when, to the second, as far as it was noticed. A use is noticed late, never early:
/// whoever is first here, and was not used since, is the least recently used of all.
#[derive(Debug, Default)]
pub(super) struct Recency {
    by_second: BTreeMap<u32, Vec<u32>>,
}

impl Recency {
    /// Puts `id` in as used at `second`. Returns its position there.
    pub(super) fn insert(&mut self, id: u32, second: u32) -> u32 {
        let used = self.by_second.entry(second).or_default();
        used.push(id);
        u32::try_from(used.len() - 1).unwrap_or(u32::MAX)
    }

    /// Takes whoever is at this position out. Returns who has it now.
    pub(super) fn remove(&mut self, second: u32, position: u32) -> Option<u32> {
        let used = self.by_second.get_mut(&second)?;
        let position = position as usize;
        if position < used.len() {
            used.swap_remove(position);
        }
        let moved = used.get(position).copied();
        if used.is_empty() {
            self.by_second.remove(&second);
        }
        moved
    }

    /// One of those that were used least recently.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.by_second.first_key_value()?.1.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_comes_first_and_positions_are_kept() {
        let mut recency = Recency::default();
        assert_eq!([(1, 20), (2, 10), (3, 10)].map(|(id, at)| recency.insert(id, at)), [0, 0, 1]);
        assert_eq!(recency.oldest(), Some(3));
        assert_eq!(recency.remove(10, 0), Some(3), "3 moved to the place of 2");
        assert_eq!(recency.remove(10, 0), None);
        assert_eq!(recency.oldest(), Some(1));
        assert_eq!(recency.remove(99, 0), None);
    }
}
