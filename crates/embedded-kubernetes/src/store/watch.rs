//! Reads the changes of a resource from its history.

use std::sync::Arc;

use tokio::sync::watch as signal;

use super::{Event, Expired, Store};
use crate::kinds::Resource;

/// The most changes that are read at a time.
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

    /// Returns the next changes, at least one. Waits until there is one.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, Expired> {
        loop {
            let events = self.read()?;
            if !events.is_empty() {
                return Ok(events);
            }
            if self.changed.changed().await.is_err() {
                // The store owns the sender, and the watch owns the store, so this cannot happen.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until something has changed since the last read, or since the watch began.
    pub async fn ready(&mut self) {
        if self.changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns the next changes, which may be none.
    pub fn read(&mut self) -> Result<Vec<Arc<Event>>, Expired> {
        self.changed.mark_unchanged();
        let (events, read) = self.store.since(&self.resource, self.position, BATCH)?;
        self.position = read;
        Ok(events)
    }

    /// Returns the revision up to which all changes have been read.
    pub fn position(&self) -> u64 {
        self.position
    }
}
