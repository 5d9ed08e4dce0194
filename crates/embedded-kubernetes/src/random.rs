//! Random names and uids, generated from a seed so that a run can be repeated.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use fnv::FnvHasher;
use serde_json::Value;

/// The characters of generated names: no vowels and none that look alike, as in the real server.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Returns a hash of a value that does not depend on the order of its keys: FNV-1a, 64 bits.
pub fn hash(value: &Value) -> u64 {
    let mut hasher = FnvHasher::default();
    absorb(&mut hasher, value);
    hasher.finish()
}

fn absorb(hasher: &mut FnvHasher, value: &Value) {
    match value {
        Value::Array(list) => {
            hasher.write(b"[");
            for item in list {
                absorb(hasher, item);
            }
        }
        Value::Object(map) => {
            hasher.write(b"{");
            let sorted: BTreeMap<_, _> = map.iter().collect();
            for (key, value) in sorted {
                absorb(hasher, &Value::from(key.as_str()));
                absorb(hasher, value);
            }
        }
        // With its quotes, so that where one text ends and the next begins is told apart.
        other => hasher.write(other.to_string().as_bytes()),
    }
}

/// Writes a number in the characters of generated names.
pub fn letters(mut number: u64, count: usize) -> String {
    let radix = LETTERS.len() as u64;
    let letter =
        |at: u64| usize::try_from(at).ok().and_then(|at| LETTERS.get(at)).map_or('x', |&byte| char::from(byte));
    (0..count)
        .map(|_| {
            let at = number % radix;
            number /= radix;
            letter(at)
        })
        .collect()
}

/// A random number generator: splitmix64.
#[derive(Debug)]
pub struct Random(AtomicU64);

impl Random {
    /// Creates a generator that returns the same numbers for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Creates a generator with a random seed.
    pub fn from_system() -> Self {
        Self::seeded(RandomState::new().hash_one(0))
    }

    /// Returns the next number.
    pub fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a uid: 122 random bits, written as a version 4 UUID.
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

    /// Returns the five characters at the end of a generated name.
    pub fn suffix(&self) -> String {
        letters(self.next(), 5)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Names of pods follow from these values, so they must not change from one version to the next.
    #[test]
    fn hash_and_seeded_numbers_are_fixed() {
        assert_eq!(hash(&json!({"b": 1, "a": [true]})), 0x1fd5_68d0_f378_8da9);
        assert_eq!(Random::seeded(0).next(), 0xe220_a839_7b1d_cdaf);
    }
}
