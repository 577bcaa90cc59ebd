//! What happened, line by line, and a digest of it.

use std::{fmt::Write as _, time::Duration};

/// The lines of one run, with the virtual time of each.
#[derive(Debug, Default)]
pub(crate) struct History {
    lines: Vec<(Duration, String)>,
}

impl History {
    pub(crate) fn add(&mut self, at: Duration, line: String) {
        self.lines.push((at, line));
    }

    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// A sum of the lines' hashes (FNV-1a), so that two runs can be compared without keeping either.
    ///
    /// Of what happens in one moment the order does not count.
    pub(crate) fn digest(&self) -> u64 {
        let hash = |(at, line): &(Duration, String)| {
            let at = at.as_nanos().to_be_bytes();
            at.iter().chain(line.as_bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            })
        };
        self.lines.iter().map(hash).fold(0, u64::wrapping_add)
    }

    /// The lines up to this many, counted from the start, and at most `most` of them.
    pub(crate) fn before(&self, end: usize, most: usize) -> String {
        let end = end.min(self.lines.len());
        let mut text = String::new();
        for (at, line) in &self.lines[end.saturating_sub(most)..end] {
            let _ = writeln!(text, "  {} {line}", clock(*at));
        }
        text
    }
}

/// Virtual time as a clock shows it.
pub(crate) fn clock(at: Duration) -> String {
    let seconds = at.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:03}", seconds % 60, at.subsec_millis())
}
