//! The scraper of workers' metrics pages.

use std::time::Duration;

use futures::future::BoxFuture;
use thiserror::Error;

use super::dial::DialError;
use super::sample::{Category, WorkerEndpoint, WorkerSample};

/// How workers are read.
pub trait Scrape: Send + Sync {
    /// One look at a worker's page, within `deadline`.
    fn scrape<'a>(
        &'a self,
        worker: &'a WorkerEndpoint,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<WorkerSample, ScrapeError>>;
}

/// Why a worker could not be read.
#[derive(Debug, Clone, Error)]
pub enum ScrapeError {
    /// Our own policy refuses to connect there.
    #[error("failed to connect to the worker: {0}")]
    Forbidden(#[from] DialError),
    /// Nothing answers, or not in time.
    #[error("failed to read {url}: {detail}; check that the worker runs and serves its metrics there")]
    Unreachable {
        /// The page.
        url: String,
        /// What came of it.
        detail: String,
    },
    /// It wants to know who we are.
    #[error("failed to read {url}: the worker answered {status}; let the page be read without credentials")]
    Unauthorised {
        /// The page.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// It answers, and the answer makes no sense.
    #[error("failed to understand {url}: {detail}")]
    Protocol {
        /// The page.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl ScrapeError {
    /// For the metric and the condition's reason.
    pub fn category(&self) -> Category {
        match self {
            Self::Forbidden(source) => source.category(),
            Self::Unreachable { .. } => Category::Unreachable,
            Self::Unauthorised { .. } => Category::Unauthorised,
            Self::Protocol { .. } => Category::Protocol,
        }
    }
}
