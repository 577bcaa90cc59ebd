//! Finds bytes in this process' own memory.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
};

use zeroize::Zeroizing;

/// A secret that was made up at run time, and is kept in disguise: it is in memory only where it was
/// given away.
pub(crate) struct Canary {
    pub(crate) name: &'static str,
    disguised: Vec<u8>,
}

impl Canary {
    /// 96 letters and digits. The allocator overwrites up to 32 bytes of what is freed.
    pub(crate) fn new(name: &'static str) -> Self {
        let mut random = [0; 96];
        File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
        let letters = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789-_~.";
        let letter = |byte: &u8| letters[usize::from(*byte) % letters.len()] ^ DISGUISE;
        Self { name, disguised: random.iter().map(letter).collect() }
    }

    /// A secret of this value.
    #[cfg(feature = "private-key-jwt")]
    pub(crate) fn of(name: &'static str, value: &[u8]) -> Self {
        Self { name, disguised: value.iter().map(|byte| byte ^ DISGUISE).collect() }
    }

    /// Appends the secret. The text must have room, or it leaves a copy behind.
    pub(crate) fn write_to(&self, text: &mut String) {
        assert!(text.capacity() - text.len() >= self.disguised.len());
        for byte in &self.disguised {
            text.push(char::from(byte ^ DISGUISE));
        }
    }

    /// The secret alone.
    pub(crate) fn reveal(&self) -> String {
        let mut text = String::with_capacity(self.disguised.len());
        self.write_to(&mut text);
        text
    }

    /// How often the secret is in memory, see [`counts`].
    pub(crate) fn count(&self) -> usize {
        counts(&[self])[0]
    }

    fn ends(&self, bytes: &[u8]) -> bool {
        let size = TAIL.min(self.disguised.len());
        let tail = self.disguised.iter().rev().take(size);
        bytes.len() >= size && bytes.iter().rev().zip(tail).all(|(b, tail)| b ^ DISGUISE == *tail)
    }
}

/// How often the tail of each secret is in writable memory. Its head is overwritten by the allocator
/// when it is freed.
pub(crate) fn counts(canaries: &[&Canary]) -> Vec<usize> {
    let mut is_last = [false; 256];
    for canary in canaries {
        is_last[usize::from(canary.disguised[canary.disguised.len() - 1] ^ DISGUISE)] = true;
    }
    let mut memory = File::open("/proc/self/mem").unwrap();
    let mut chunk = Zeroizing::new(vec![0; CHUNK]);
    let own = chunk.as_ptr() as u64;
    let own = own..own + CHUNK as u64;
    let mut found = vec![0; canaries.len()];
    for (start, end) in writable() {
        let mut at = start;
        while at < end {
            let size = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let part = &mut chunk[..size];
            memory.seek(SeekFrom::Start(at)).unwrap();
            if memory.read_exact(part).is_err() {
                break; // a guard page
            }
            for (place, byte) in part.iter().enumerate() {
                // What was read for this is not counted.
                if is_last[usize::from(*byte)] && !own.contains(&(at + place as u64)) {
                    for (count, canary) in found.iter_mut().zip(canaries) {
                        *count += usize::from(canary.ends(&part[..=place]));
                    }
                }
            }
            at += (CHUNK - TAIL + 1) as u64;
        }
    }
    found
}

fn writable() -> Vec<(u64, u64)> {
    let mut maps = String::with_capacity(LARGE);
    File::open("/proc/self/maps").unwrap().read_to_string(&mut maps).unwrap();
    let range = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let parse = |text| u64::from_str_radix(text, 16).ok();
        rest.starts_with("rw").then_some((parse(start)?, parse(end)?))
    };
    let mut ranges = Vec::with_capacity(LARGE);
    ranges.extend(maps.lines().filter_map(range));
    assert!(ranges.len() > 3, "{maps}");
    ranges
}

/// How much of the end of a secret is looked for.
const TAIL: usize = 48;
/// The allocator gives blocks of this size pages of their own: what was freed is not overwritten by
/// the search for it.
const LARGE: usize = 1 << 20;
const CHUNK: usize = LARGE;
const DISGUISE: u8 = 0xA5;

#[test]
fn a_secret_is_found_while_it_is_there_and_where_it_was_left() {
    let canary = Canary::new("control");
    assert_eq!(canary.count(), 0);
    let text = canary.reveal();
    assert_eq!(canary.count(), 1);
    // Freed, and not wiped.
    drop(text);
    assert_eq!(canary.count(), 1);
}
