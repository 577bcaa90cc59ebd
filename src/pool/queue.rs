//! The tenants whose fetch is put off, and which of them comes next. Called by the ledger.

use std::collections::BTreeMap;

/// What a tenant is in the queue for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// It had a token, has none now, and a caller asks for one.
    Missed,
    /// It has a token that is in use.
    Renewal,
    /// It never had a token.
    Stranger,
    /// Its last fetch hung and gave no token.
    Suspect,
}

/// A tenant's place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: Line,
    number: u64,
}

/// Four lines. As long as there are tenants in each of them, missed tokens, renewals and strangers begin
/// in turn; suspects have permits of their own, and do not come twice in a row before others. So no
/// line starves another: renewals do not wait for a crowd of new tenants, nor those for many renewals.
///
/// Of strangers, the newest and the oldest come alternately. Where more arrive than can be served, the
/// newest is served in time, and the oldest is not forgotten.
#[derive(Debug, Default)]
pub(super) struct Queue {
    missed: BTreeMap<u64, u32>,
    renewals: BTreeMap<u64, u32>,
    strangers: BTreeMap<u64, u32>,
    suspects: BTreeMap<u64, u32>,
    numbers: u64,
    turn: Turn,
    newest: bool,
    /// Whether the last one was a suspect.
    suspect: bool,
}

impl Queue {
    /// Puts a tenant at the end of a line; a stranger in the order of `created`, the number of its slot.
    /// Those that are created together are not looked at in order.
    pub(super) fn push(&mut self, line: Line, id: u32, created: u64) -> Place {
        self.numbers += 1;
        let number = if line == Line::Stranger { created } else { self.numbers };
        let place = Place { line, number };
        self.line_mut(line).insert(place.number, id);
        place
    }

    /// Takes a tenant out.
    pub(super) fn remove(&mut self, place: Place) {
        self.line_mut(place.line).remove(&place.number);
    }

    pub(super) fn clear(&mut self) {
        for line in LINES {
            self.line_mut(line).clear();
        }
    }

    fn line(&self, line: Line) -> &BTreeMap<u64, u32> {
        match line {
            Line::Missed => &self.missed,
            Line::Renewal => &self.renewals,
            Line::Stranger => &self.strangers,
            Line::Suspect => &self.suspects,
        }
    }

    fn line_mut(&mut self, line: Line) -> &mut BTreeMap<u64, u32> {
        match line {
            Line::Missed => &mut self.missed,
            Line::Renewal => &mut self.renewals,
            Line::Stranger => &mut self.strangers,
            Line::Suspect => &mut self.suspects,
        }
    }

    /// The lines with tenants in them.
    pub(super) fn occupied(&self) -> impl Iterator<Item = Line> {
        LINES.into_iter().filter(|line| !self.line(*line).is_empty())
    }

    /// Takes the tenant that comes next out of the lines that are open.
    pub(super) fn pop(&mut self, open: impl Fn(Line) -> bool) -> Option<(u32, Line)> {
        // Not two in a row, in case that there is but one permit for all.
        if !self.suspect
            && let Some(id) = self.pop_if(Line::Suspect, &open)
        {
            self.suspect = true;
            return Some((id, Line::Suspect));
        }
        let (first, next) = match self.turn {
            Turn::Missed => (Line::Missed, Turn::Renewal),
            Turn::Renewal => (Line::Renewal, Turn::Stranger),
            Turn::Stranger => (Line::Stranger, Turn::Missed),
        };
        for line in [first, Line::Missed, Line::Renewal, Line::Stranger] {
            if let Some(id) = self.pop_if(line, &open) {
                (self.turn, self.suspect) = (next, false);
                return Some((id, line));
            }
        }
        let id = self.pop_if(Line::Suspect, &open)?;
        self.suspect = true;
        Some((id, Line::Suspect))
    }

    fn pop_if(&mut self, line: Line, open: impl Fn(Line) -> bool) -> Option<u32> {
        if self.line(line).is_empty() || !open(line) {
            return None;
        }
        let newest = line == Line::Stranger && {
            self.newest = !self.newest;
            self.newest
        };
        let places = self.line_mut(line);
        let popped = if newest { places.pop_last() } else { places.pop_first() };
        popped.map(|(_, id)| id)
    }
}

const LINES: [Line; 4] = [Line::Missed, Line::Renewal, Line::Stranger, Line::Suspect];

/// Which line comes first.
#[derive(Debug, Clone, Copy, Default)]
enum Turn {
    #[default]
    Missed,
    Renewal,
    Stranger,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queue: &mut Queue) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop(|_| true)).map(|(id, _)| id).collect()
    }

    #[test]
    fn f63_no_line_starves_another() {
        let mut queue = Queue::default();
        for id in 0..100 {
            queue.push(Line::Stranger, id, id.into());
            queue.push(Line::Renewal, 100 + id, 0);
        }
        let order = drain(&mut queue);
        let renewals = order[..60].iter().filter(|id| **id >= 100).count();
        assert_eq!((renewals, order.len()), (40, 200));
        for id in 0..100 {
            queue.push(Line::Missed, id, 0);
            queue.push(Line::Renewal, 100 + id, 0);
        }
        let order = drain(&mut queue);
        let renewals = order[..60].iter().filter(|id| **id >= 100).count();
        assert_eq!((renewals, order.len()), (20, 200));
    }

    #[test]
    fn f62_suspects_do_not_come_twice_in_a_row_before_others() {
        let mut queue = Queue::default();
        for id in 0..3 {
            queue.push(Line::Suspect, id, 0);
            queue.push(Line::Renewal, 10 + id, 0);
        }
        // Whatever is asked for while nothing may begin.
        let order = std::iter::from_fn(|| {
            assert_eq!(queue.pop(|_| false), None);
            queue.pop(|_| true)
        });
        assert_eq!(order.map(|(id, _)| id).collect::<Vec<_>>(), [0, 10, 1, 11, 2, 12]);
    }

    #[test]
    fn f62_of_strangers_the_newest_and_the_oldest_come_alternately() {
        let mut queue = Queue::default();
        for id in [3, 0, 5, 1, 4, 2] {
            queue.push(Line::Stranger, id, id.into());
        }
        assert_eq!(drain(&mut queue), [5, 0, 4, 1, 3, 2]);
    }

    #[test]
    fn who_leaves_leaves_nothing_behind() {
        let mut queue = Queue::default();
        let places =
            [Line::Missed, Line::Stranger, Line::Suspect].map(|line| queue.push(line, 7, 1));
        for place in places {
            queue.remove(place);
        }
        assert_eq!(queue.occupied().count(), 0);
        assert_eq!(queue.pop(|_| true), None);
        queue.push(Line::Suspect, 1, 1);
        assert_eq!(queue.pop(|line| line != Line::Suspect), None);
        assert_eq!(queue.pop(|_| true), Some((1, Line::Suspect)));
    }
}
