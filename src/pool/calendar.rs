use std::time::Duration;

use super::{
    chunks::Chunks,
    lists::{EMPTY, Head, Lists},
    timeline::Tick,
};

/// Who is to be looked at when.
///
/// A ring of pages, one for every four seconds of the next hour and a bit; the page that is open is
/// spread over a ring of slots of 64 ms. What lies beyond the last page waits on it, and is put on
/// from there. Whatever the number of tenants, adding, moving and removing one takes the same short
/// time and allocates nothing. Nobody comes too soon, and nobody later than a slot is long.
#[derive(Debug)]
pub(super) struct Calendar {
    slots: Box<[Head]>,
    pages: Box<[Head]>,
    lists: Lists,
    entries: Chunks<Entry>,
    /// The slot whose tenants are due. Those before it are empty.
    slot: u64,
    /// The page that is open.
    page: u64,
    /// How many there are in slots, and on pages.
    soon: usize,
    later: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    due: Tick,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    Slot(u8),
    Page(u16),
}

impl Default for Entry {
    fn default() -> Self {
        Self { due: Tick::FAR, place: Place::Nowhere }
    }
}

/// One step through the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// This one's time has come; it is out of the calendar.
    Due(u32),
    /// Somebody was put into a slot.
    Sorted,
}

impl Calendar {
    pub(super) fn new(now: Tick) -> Self {
        let slot = slot_begun(now);
        Self {
            slots: vec![EMPTY; SLOTS].into(),
            pages: vec![EMPTY; PAGES].into(),
            lists: Lists::new(),
            entries: Chunks::new(),
            slot,
            page: page_of(slot),
            soon: 0,
            later: 0,
        }
    }

    /// When a tenant is to be looked at; [`Tick::FAR`] if it is not in the calendar.
    pub(super) fn due(&self, id: u32) -> Tick {
        let entry = self.entries.get(id).filter(|entry| entry.place != Place::Nowhere);
        entry.map_or(Tick::FAR, |entry| entry.due)
    }

    /// Puts a tenant in for `due`, and nowhere else. At [`Tick::NEVER`] it is due at once.
    pub(super) fn insert(&mut self, id: u32, due: Tick) {
        self.remove(id);
        let slot = slot_after(due).max(self.slot);
        let page = page_of(slot);
        let place = if page <= self.page {
            Place::Slot(u8::try_from(slot % SLOTS as u64).unwrap_or_default())
        } else {
            let page = page.min(self.page + LAST_PAGE);
            Place::Page(u16::try_from(page % PAGES as u64).unwrap_or_default())
        };
        if let Some(entry) = self.entries.at(id) {
            *entry = Entry { due, place };
        }
        let (head, count, lists) = self.at(place);
        if let Some(head) = head {
            lists.push(head, id);
            *count += 1;
        }
    }

    /// Takes a tenant out.
    pub(super) fn remove(&mut self, id: u32) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let place = std::mem::replace(&mut entry.place, Place::Nowhere);
        let (head, count, lists) = self.at(place);
        if let Some(head) = head {
            lists.remove(head, id);
            *count -= 1;
        }
    }

    /// Goes one step on, as far as `now`.
    pub(super) fn step(&mut self, now: Tick) -> Option<Step> {
        let now = slot_begun(now);
        loop {
            if let Some(id) = self.first_in_slot(self.slot) {
                self.remove(id);
                return Some(Step::Due(id));
            }
            if let Some(id) = self.first_on_page(self.page) {
                // Out of the open page and into its slot, or onto a later page.
                self.insert(id, self.due(id));
                return Some(Step::Sorted);
            }
            if self.slot >= now {
                return None;
            }
            // Nobody is skipped: what has nobody in it is passed over.
            let last = self.page * SLOTS as u64 + SLOTS as u64 - 1;
            if self.slot < last {
                self.slot = if self.soon == 0 { last.min(now) } else { self.slot + 1 };
            } else if self.later == 0 {
                (self.slot, self.page) = (now, page_of(now));
            } else {
                // On to the first slot of the next page.
                self.page += 1;
                self.slot += 1;
            }
        }
    }

    /// When there is something to do, at the earliest.
    pub(super) fn next(&self) -> Option<Tick> {
        if self.first_on_page(self.page).is_some() {
            return Some(Tick::NEVER);
        }
        if self.soon > 0 {
            let occupied = |slot: &u64| self.first_in_slot(*slot).is_some();
            let found = (self.slot..self.slot + SLOTS as u64).find(occupied)?;
            return Some(if found == self.slot { Tick::NEVER } else { begin(found) });
        }
        let occupied = |page: &u64| self.first_on_page(*page).is_some();
        let found = (self.later > 0)
            .then(|| (self.page + 1..=self.page + LAST_PAGE).find(occupied))
            .flatten()?;
        Some(begin(found * SLOTS as u64))
    }

    fn first_in_slot(&self, slot: u64) -> Option<u32> {
        let head = self.slots.get(usize::try_from(slot % SLOTS as u64).ok()?)?;
        (*head != EMPTY).then_some(*head)
    }

    fn first_on_page(&self, page: u64) -> Option<u32> {
        let head = self.pages.get(usize::try_from(page % PAGES as u64).ok()?)?;
        (*head != EMPTY).then_some(*head)
    }

    fn at(&mut self, place: Place) -> (Option<&mut Head>, &mut usize, &mut Lists) {
        let (head, count) = match place {
            Place::Nowhere => (None, &mut self.soon),
            Place::Slot(slot) => (self.slots.get_mut(usize::from(slot)), &mut self.soon),
            Place::Page(page) => (self.pages.get_mut(usize::from(page)), &mut self.later),
        };
        (head, count, &mut self.lists)
    }
}

/// The slot that has begun at this tick.
fn slot_begun(tick: Tick) -> u64 {
    tick.milliseconds() / SLOT
}

/// The first slot that begins at this tick or after it.
fn slot_after(tick: Tick) -> u64 {
    tick.milliseconds().div_ceil(SLOT)
}

fn page_of(slot: u64) -> u64 {
    slot / SLOTS as u64
}

fn begin(slot: u64) -> Tick {
    Tick::NEVER.after(Duration::from_millis(slot.saturating_mul(SLOT)))
}

/// How long a slot is, in milliseconds.
const SLOT: u64 = 64;
/// How many slots a page has.
const SLOTS: usize = 64;
const PAGES: usize = 1024;
/// How far the last page is from the open one.
const LAST_PAGE: u64 = PAGES as u64 - 1;

#[cfg(test)]
mod tests;
