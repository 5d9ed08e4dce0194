//! The background tasks of the demo, which run in this process: the operator and the load.

use std::time::Duration;

use futures::FutureExt as _;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Failure;

/// A running background task. Dropping it aborts the task.
#[derive(Debug)]
pub(super) struct BackgroundTask<T> {
    name: &'static str,
    stop: CancellationToken,
    task: JoinHandle<Result<T, Failure>>,
}

impl<T: Send + 'static> BackgroundTask<T> {
    /// Starts the task; cancelling the token that it gets asks it to stop.
    pub(super) fn start<F>(name: &'static str, run: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        Self { name, task: tokio::spawn(run(stop.clone())), stop }
    }

    /// Waits until the task ends by itself.
    pub(super) async fn finished(&mut self) -> Result<T, Failure> {
        let outcome = (&mut self.task).await;
        self.outcome(outcome)
    }

    /// Returns an error if the task has ended.
    pub(super) fn check_running(&mut self) -> Result<(), Failure> {
        match (&mut self.task).now_or_never() {
            None => Ok(()),
            Some(outcome) => match self.outcome(outcome) {
                Ok(_) => Err(format!("the {} ended unexpectedly", self.name).into()),
                Err(error) => Err(error),
            },
        }
    }

    /// Asks the task to stop, and aborts it after `grace`.
    pub(super) async fn stop(mut self, grace: Duration) {
        self.stop.cancel();
        if !self.task.is_finished() && timeout(grace, &mut self.task).await.is_err() {
            super::print_message(&format!("the {} did not stop within {grace:?}", self.name));
            self.task.abort();
        }
    }

    fn outcome(&self, outcome: Result<Result<T, Failure>, JoinError>) -> Result<T, Failure> {
        match outcome {
            Ok(outcome) => outcome.map_err(|error| format!("the {} failed: {error}", self.name).into()),
            Err(error) => Err(format!("the {} failed: {error}", self.name).into()),
        }
    }
}

impl<T> Drop for BackgroundTask<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_by_itself_is_an_error_with_its_cause() {
        let mut task = BackgroundTask::start("load", |stop| async move {
            stop.cancelled().await;
            Ok(7)
        });
        task.check_running().unwrap();
        task.stop(Duration::from_secs(1)).await;

        let mut task = BackgroundTask::<()>::start("operator", |_| async { Err("no lease".into()) });
        tokio::task::yield_now().await;
        assert_eq!(task.check_running().unwrap_err().to_string(), "the operator failed: no lease");
        let mut task = BackgroundTask::<()>::start("operator", |_| async { panic!("a defect") });
        let error = task.finished().await.unwrap_err().to_string();
        assert!(error.starts_with("the operator failed: ") && error.contains("panic"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_stop_is_aborted() {
        let gone = CancellationToken::new();
        let guard = gone.clone().drop_guard();
        let task = BackgroundTask::<()>::start("operator", |_| async {
            let _guard = guard;
            std::future::pending().await
        });
        tokio::task::yield_now().await;
        task.stop(Duration::from_secs(10)).await;
        gone.cancelled().await;
    }
}
