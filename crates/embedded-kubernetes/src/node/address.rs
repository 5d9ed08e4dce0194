//! Gives each pod an address. On Linux all of 127.0.0.0/8 leads to this machine, so that pods may listen on the same
//! port. Elsewhere only 127.0.0.1 does, and all pods share it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use super::facts::HOST;

/// 127.64.0.0/10: away from 127.0.0.1 and from the addresses that distributions use beside it.
const BASE: u32 = u32::from_be_bytes([127, 64, 0, 0]);
const SIZE: u32 = 1 << 22;

/// The addresses that are in use.
#[derive(Debug)]
pub(super) struct Addresses(Mutex<(u32, BTreeSet<u32>)>);

impl Addresses {
    /// Creates a pool in which all addresses are free. The first one given out is `start`: nodes of several processes
    /// on one machine do not know of each other, and should not begin at the same address.
    pub(super) fn starting_at(start: u64) -> Self {
        Self(Mutex::new((u32::try_from(start % u64::from(SIZE)).unwrap_or_default(), BTreeSet::new())))
    }

    /// Returns a free address, or `None` if all four million are in use.
    pub(super) fn allocate(&self) -> Option<Ipv4Addr> {
        if !cfg!(target_os = "linux") {
            return Some(HOST);
        }
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, used) = &mut *guard;
        for _ in 0..SIZE {
            let offset = *next;
            *next = (offset + 1) % SIZE;
            // The first and the last of a block of 256 look like a network and a broadcast address.
            if (1..255).contains(&(offset % 256)) && used.insert(offset) {
                return Some(Ipv4Addr::from(BASE + offset));
            }
        }
        None
    }

    /// Returns an address to the pool.
    pub(super) fn release(&self, address: Ipv4Addr) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guard.1.remove(&u32::from(address).wrapping_sub(BASE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_out_once() {
        let addresses = Addresses::starting_at(u64::from(SIZE) - 2);
        let first: Vec<_> = (0..300).map(|_| addresses.allocate().unwrap()).collect();
        let different: BTreeSet<_> = first.iter().collect();
        assert_eq!(different.len(), 300);
        assert_eq!(first[0], Ipv4Addr::new(127, 127, 255, 254));
        assert_eq!(first[1], Ipv4Addr::new(127, 64, 0, 1));
        assert_eq!(first.iter().filter(|address| matches!(address.octets()[3], 0 | 255)).count(), 0);
        // After one round the first address is in use, and the second is free again.
        let addresses = Addresses(Mutex::new((1, BTreeSet::from([1, 2]))));
        addresses.release(Ipv4Addr::new(127, 64, 0, 2));
        assert_eq!(addresses.allocate(), Some(Ipv4Addr::new(127, 64, 0, 2)));
    }
}
