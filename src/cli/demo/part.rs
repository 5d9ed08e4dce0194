//! What the demo runs beside itself, as tasks of this process: the operator and the load.

use std::time::Duration;

use futures::FutureExt as _;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Failure;

/// A part that runs.
#[derive(Debug)]
pub(super) struct Part<T> {
    name: &'static str,
    stop: CancellationToken,
    task: JoinHandle<Result<T, Failure>>,
}

impl<T: Send + 'static> Part<T> {
    /// Starts it; the token tells it to stop.
    pub(super) fn start<F>(name: &'static str, run: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        Self { name, task: tokio::spawn(run(stop.clone())), stop }
    }

    /// Until it has ended by itself.
    pub(super) async fn ended(&mut self) -> Result<T, Failure> {
        let outcome = (&mut self.task).await;
        self.outcome(outcome)
    }

    /// An error if it has ended.
    pub(super) fn must_run(&mut self) -> Result<(), Failure> {
        match (&mut self.task).now_or_never() {
            None => Ok(()),
            Some(outcome) => match self.outcome(outcome) {
                Ok(_) => Err(format!("the {} has ended by itself", self.name).into()),
                Err(error) => Err(error),
            },
        }
    }

    /// Asks it to end, and makes it after `patience`.
    pub(super) async fn stop(mut self, patience: Duration) {
        self.stop.cancel();
        if !self.task.is_finished() && timeout(patience, &mut self.task).await.is_err() {
            super::say(&format!("the {} did not stop within {patience:?}", self.name));
            self.task.abort();
        }
    }

    fn outcome(&self, outcome: Result<Result<T, Failure>, JoinError>) -> Result<T, Failure> {
        match outcome {
            Ok(outcome) => outcome.map_err(|error| format!("the {} has failed: {error}", self.name).into()),
            Err(error) => Err(format!("the {} has failed: {error}", self.name).into()),
        }
    }
}

/// One that is dropped has nobody left to work for.
impl<T> Drop for Part<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_by_itself_is_missed_and_says_why() {
        let mut part = Part::start("load", |stop| async move {
            stop.cancelled().await;
            Ok(7)
        });
        part.must_run().unwrap();
        part.stop(Duration::from_secs(1)).await;

        let mut part = Part::<()>::start("operator", |_| async { Err("no lease".into()) });
        tokio::task::yield_now().await;
        assert_eq!(part.must_run().unwrap_err().to_string(), "the operator has failed: no lease");
        let mut part = Part::<()>::start("operator", |_| async { panic!("a defect") });
        let error = part.ended().await.unwrap_err().to_string();
        assert!(error.starts_with("the operator has failed: ") && error.contains("panic"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_does_not_stop_is_made_to() {
        let gone = CancellationToken::new();
        let guard = gone.clone().drop_guard();
        let part = Part::<()>::start("operator", |_| async {
            let _guard = guard;
            std::future::pending().await
        });
        tokio::task::yield_now().await;
        part.stop(Duration::from_secs(10)).await;
        gone.cancelled().await;
    }
}
