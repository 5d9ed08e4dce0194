//! An address for each pod. On Linux all of 127.0.0.0/8 leads to this machine, so pods may listen on the same port;
//! elsewhere only 127.0.0.1 does, which then is the address of all.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use super::facts::HOST;

/// 127.64.0.0/10: away from 127.0.0.1 and what distributions put beside it.
const BASE: u32 = u32::from_be_bytes([127, 64, 0, 0]);
const SIZE: u32 = 1 << 22;

/// The addresses that are in use.
#[derive(Debug)]
pub(super) struct Addresses(Mutex<(u32, BTreeSet<u32>)>);

impl Addresses {
    /// All free. They are given out from `start` on: nodes of several processes on one machine should not begin at the
    /// same one, for nothing keeps them apart.
    pub(super) fn from(start: u64) -> Self {
        Self(Mutex::new((u32::try_from(start % u64::from(SIZE)).unwrap_or_default(), BTreeSet::new())))
    }

    /// A free one. `None`: all four million are in use.
    pub(super) fn take(&self) -> Option<Ipv4Addr> {
        if !cfg!(target_os = "linux") {
            return Some(HOST);
        }
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, used) = &mut *guard;
        for _ in 0..SIZE {
            let offset = *next;
            *next = (offset + 1) % SIZE;
            // Not the first and the last of a block of 256: they look like a network and a broadcast.
            if (1..255).contains(&(offset % 256)) && used.insert(offset) {
                return Some(Ipv4Addr::from(BASE + offset));
            }
        }
        None
    }

    /// Gives one back.
    pub(super) fn give_back(&self, address: Ipv4Addr) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guard.1.remove(&u32::from(address).wrapping_sub(BASE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_is_given_out_twice() {
        let addresses = Addresses::from(u64::from(SIZE) - 2);
        let first: Vec<_> = (0..300).map(|_| addresses.take().unwrap()).collect();
        let different: BTreeSet<_> = first.iter().collect();
        assert_eq!(different.len(), 300);
        assert_eq!(first[0], Ipv4Addr::new(127, 127, 255, 254));
        assert_eq!(first[1], Ipv4Addr::new(127, 64, 0, 1));
        assert_eq!(first.iter().filter(|address| matches!(address.octets()[3], 0 | 255)).count(), 0);
        // Around once: the first is in use, the second is free again.
        let addresses = Addresses(Mutex::new((1, BTreeSet::from([1, 2]))));
        addresses.give_back(Ipv4Addr::new(127, 64, 0, 2));
        assert_eq!(addresses.take(), Some(Ipv4Addr::new(127, 64, 0, 2)));
    }
}
