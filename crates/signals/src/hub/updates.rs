//! Notifies readers which jobs have new samples. A slow reader receives each job once, however often it was sampled
//! meanwhile.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::sample::JobKey;

/// The subscribed readers.
#[derive(Debug, Default)]
pub(super) struct Updates {
    subscribers: Mutex<Vec<Weak<Inbox>>>,
    ended: AtomicBool,
}

/// The jobs that one reader has not received yet: at most one entry for each job.
#[derive(Debug, Default)]
struct Inbox {
    pending: Mutex<Pending>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    jobs: BTreeSet<JobKey>,
    /// The job that was handed out last. The next one follows it in the order of names, so that a busy job cannot hide
    /// another.
    last: Option<JobKey>,
    ended: bool,
}

impl Pending {
    fn pop(&mut self) -> Option<JobKey> {
        use std::ops::Bound::{Excluded, Unbounded};
        let next = match &self.last {
            Some(last) => self.jobs.range((Excluded(last), Unbounded)).next().or_else(|| self.jobs.first()),
            None => self.jobs.first(),
        }
        .cloned()?;
        self.jobs.remove(&next);
        self.last = Some(next.clone());
        Some(next)
    }
}

impl Updates {
    pub(super) fn subscribe(&self) -> impl Stream<Item = JobKey> + Send + use<> {
        let inbox = Arc::new(Inbox::default());
        self.subscribers.lock().push(Arc::downgrade(&inbox));
        if self.ended.load(Ordering::SeqCst) {
            inbox.pending.lock().ended = true;
        }
        futures::stream::unfold(inbox, |inbox| async move {
            loop {
                {
                    let mut pending = inbox.pending.lock();
                    if let Some(job) = pending.pop() {
                        drop(pending);
                        return Some((job, inbox));
                    }
                    if pending.ended {
                        return None;
                    }
                }
                // `Notify` keeps a notification that comes between the check and this line.
                inbox.wake.notified().await;
            }
        })
    }

    pub(super) fn publish(&self, job: &JobKey) {
        self.for_each_subscriber(|pending| {
            if !pending.jobs.contains(job) {
                pending.jobs.insert(job.clone());
            }
        });
    }

    pub(super) fn withdraw(&self, job: &JobKey) {
        self.for_each_subscriber(|pending| {
            pending.jobs.remove(job);
        });
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.for_each_subscriber(|pending| pending.ended = true);
    }

    fn for_each_subscriber(&self, change: impl Fn(&mut Pending)) {
        self.subscribers.lock().retain(|subscriber| {
            let Some(inbox) = subscriber.upgrade() else { return false };
            change(&mut inbox.pending.lock());
            inbox.wake.notify_one();
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    fn job(name: &str) -> JobKey {
        JobKey { namespace: "team".to_owned(), name: name.to_owned() }
    }

    #[tokio::test]
    async fn slow_reader_receives_each_job_once() {
        let updates = Updates::default();
        let mut stream = std::pin::pin!(updates.subscribe());
        for _ in 0..1000 {
            updates.publish(&job("a"));
            updates.publish(&job("b"));
        }
        assert_eq!(stream.next().await, Some(job("a")));
        updates.publish(&job("a"));
        assert_eq!(stream.next().await, Some(job("b")), "a job that is busy does not hide the next one");
        assert_eq!(stream.next().await, Some(job("a")));
        assert_eq!(stream.next().now_or_never(), None);
    }

    #[tokio::test]
    async fn stream_ends_with_the_hub_and_dropped_readers_are_removed() {
        let updates = Updates::default();
        drop(updates.subscribe());
        let mut stream = std::pin::pin!(updates.subscribe());
        updates.publish(&job("a"));
        updates.withdraw(&job("a"));
        updates.end();
        assert_eq!(stream.next().await, None);
        assert_eq!(updates.subscribers.lock().len(), 1);
    }
}
