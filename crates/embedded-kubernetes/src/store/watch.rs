//! The changes of a resource, read from its history.

use std::sync::Arc;

use tokio::sync::watch as signal;

use super::{Event, Expired, Store};
use crate::kinds::Resource;

/// How many changes are read at a time.
const BATCH: usize = 256;

/// A position in the history of one resource.
#[derive(Debug)]
pub struct Watch {
    store: Store,
    resource: Resource,
    position: u64,
    changed: signal::Receiver<u64>,
}

impl Watch {
    pub(super) fn new(store: Store, resource: Resource, position: u64, changed: signal::Receiver<u64>) -> Self {
        Self { store, resource, position, changed }
    }

    /// The next changes, at least one; waits until there are any.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, Expired> {
        loop {
            let events = self.read()?;
            if !events.is_empty() {
                return Ok(events);
            }
            if self.changed.changed().await.is_err() {
                // The store keeps the sender as long as it lives, and we keep the store.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until something has changed since the last reading, or since the watch began.
    pub async fn ready(&mut self) {
        if self.changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The next changes, none if there are none yet.
    pub fn read(&mut self) -> Result<Vec<Arc<Event>>, Expired> {
        self.changed.mark_unchanged();
        let (events, read) = self.store.since(&self.resource, self.position, BATCH)?;
        self.position = read;
        Ok(events)
    }

    /// The revision up to which every change has been read.
    pub fn position(&self) -> u64 {
        self.position
    }
}
