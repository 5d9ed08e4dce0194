//! Random names and uids: from a seed, so that a run can be repeated.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// The letters of generated names: no vowels and nothing that looks like another, as the real server has it.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A source of random numbers: splitmix64.
#[derive(Debug)]
pub struct Random(AtomicU64);

impl Random {
    /// The same numbers for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Other numbers each time.
    pub fn from_system() -> Self {
        Self::seeded(RandomState::new().hash_one(0))
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A uid: 122 random bits, written as a version 4 UUID.
    pub fn uid(&self) -> String {
        let (a, b) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            0x8000 | (b >> 48) & 0x3fff,
            b & 0xffff_ffff_ffff
        )
    }

    /// The five letters at the end of a generated name.
    pub fn suffix(&self) -> String {
        let mut number = self.next();
        let count = LETTERS.len() as u64;
        (0..5)
            .map(|_| {
                let at = usize::try_from(number % count).unwrap_or_default();
                number /= count;
                LETTERS.get(at).map_or('x', |&letter| char::from(letter))
            })
            .collect()
    }
}
