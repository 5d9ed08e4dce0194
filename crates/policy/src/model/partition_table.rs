//! The partitions of a job. A lookup takes constant time when the samples come in the order of the last observation.

use super::partition::{Key, PartitionTrack};

/// Partitions in the order of their topics and numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct PartitionTable {
    slots: Vec<Slot>,
    /// `order[i]`: slot of the i-th sample of the last observation.
    order: Vec<u32>,
    /// Changes whenever a partition comes or goes.
    pub(crate) version: u64,
}

#[derive(Debug, Clone)]
struct Slot {
    id: Box<str>,
    key: Key,
    track: PartitionTrack,
}

impl PartitionTable {
    /// Returns the partition of the `nth` sample of an observation; a new one is created with `make`.
    pub(crate) fn entry(
        &mut self,
        nth: usize,
        id: &str,
        make: impl FnOnce() -> PartitionTrack,
    ) -> Option<&mut PartitionTrack> {
        let guess = self.order.get(nth).and_then(|index| usize::try_from(*index).ok());
        let found = guess.filter(|index| self.slots.get(*index).is_some_and(|slot| *slot.id == *id));
        let index = found.unwrap_or_else(|| self.find(id, make));
        let slot = u32::try_from(index).unwrap_or(u32::MAX);
        if let Some(known) = self.order.get_mut(nth) {
            *known = slot;
        } else if self.order.len() == nth && nth < self.slots.len() {
            self.order.push(slot);
        }
        self.slots.get_mut(index).map(|slot| &mut slot.track)
    }

    fn find(&mut self, id: &str, make: impl FnOnce() -> PartitionTrack) -> usize {
        let key = Key::parse(id);
        match self.slots.binary_search_by(|slot| slot.key.cmp(&key)) {
            Ok(index) => index,
            Err(index) => {
                self.version = self.version.wrapping_add(1);
                self.order.clear();
                self.slots.insert(index, Slot { id: id.into(), key, track: make() });
                index
            }
        }
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&mut PartitionTrack) -> bool) {
        let before = self.slots.len();
        self.slots.retain_mut(|slot| keep(&mut slot.track));
        if self.slots.len() != before {
            self.version = self.version.wrapping_add(1);
            self.order.clear();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Iterates in the order in which the `range` assignor assigns partitions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &PartitionTrack)> {
        self.slots.iter().map(|slot| (&slot.key, &slot.track))
    }

    pub(crate) fn tracks_mut(&mut self) -> impl Iterator<Item = &mut PartitionTrack> {
        self.slots.iter_mut().map(|slot| &mut slot.track)
    }

    #[cfg(test)]
    pub(crate) fn get(&self, id: &str) -> Option<&PartitionTrack> {
        self.slots.iter().find(|slot| *slot.id == *id).map(|slot| &slot.track)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let names = |slot: &Slot| slot.id.len() + slot.key.topic.len() + 32 + slot.track.history.heap_bytes();
        self.slots.capacity() * size_of::<Slot>()
            + self.order.capacity() * size_of::<u32>()
            + self.slots.iter().map(names).sum::<usize>()
    }
}
