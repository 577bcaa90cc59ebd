use super::chunks::Chunks;

/// Lists of tenants' numbers, linked both ways: whatever their length, changing one takes the same
/// short time and allocates nothing. Each number is in one list at most.
#[derive(Debug)]
pub(super) struct Lists {
    links: Chunks<Link>,
}

/// The first number of a list.
pub(super) type Head = u32;

/// The head of an empty list.
pub(super) const EMPTY: Head = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Link {
    before: u32,
    after: u32,
}

impl Default for Link {
    fn default() -> Self {
        Self { before: EMPTY, after: EMPTY }
    }
}

impl Lists {
    pub(super) fn new() -> Self {
        Self { links: Chunks::new() }
    }

    /// Puts a number, which is in no list, at the front of one.
    pub(super) fn push(&mut self, head: &mut Head, id: u32) {
        if let Some(link) = self.links.at(id) {
            *link = Link { before: EMPTY, after: *head };
        }
        if let Some(second) = self.links.get_mut(*head) {
            second.before = id;
        }
        *head = id;
    }

    /// Takes a number out of the list with this head.
    pub(super) fn remove(&mut self, head: &mut Head, id: u32) {
        let Some(link) = self.links.get(id).copied() else { return };
        if let Some(after) = self.links.get_mut(link.after) {
            after.before = link.before;
        }
        match self.links.get_mut(link.before) {
            Some(before) => before.after = link.after,
            None => *head = link.after,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_leave_from_anywhere() {
        let mut lists = Lists::new();
        let mut head = EMPTY;
        for id in 0..1000 {
            lists.push(&mut head, id);
        }
        for id in [0, 999, 500, 501] {
            lists.remove(&mut head, id);
        }
        let mut left = Vec::new();
        while head != EMPTY {
            left.push(head);
            lists.remove(&mut head, left[left.len() - 1]);
        }
        let expected: Vec<_> = (0..999).rev().filter(|id| ![0, 500, 501].contains(id)).collect();
        assert_eq!(left, expected);
        assert_eq!(head, EMPTY);
    }
}
