//! The scraper of workers' metrics pages.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use thiserror::Error;
use tracing::debug;

use super::dial::DialError;
use super::egress::Egress;
use super::limits;
use super::prometheus_text::{self, Line, LineSplitter, MetricSample};
use super::sample::{Category, WorkerEndpoint, WorkerSample};
use sluice_base::clock::Clock;
use sluice_base::units::Seconds;

/// Reads metrics pages of workers.
pub trait Scrape: Send + Sync {
    /// Reads a worker's page within `deadline`. Only positions in `topics`, which must be sorted, are kept.
    fn scrape<'a>(
        &'a self,
        worker: &'a WorkerEndpoint,
        topics: &'a [String],
        deadline: Duration,
    ) -> BoxFuture<'a, Result<WorkerSample, ScrapeError>>;
}

/// Why a worker could not be read.
#[derive(Debug, Clone, Error)]
pub enum ScrapeError {
    /// Sluice's egress policy denies the connection.
    #[error("failed to connect to the worker: {0}")]
    Forbidden(#[from] DialError),
    /// The worker does not answer, or not in time.
    #[error("failed to read {url}: {detail}; check that the worker runs and serves its metrics there")]
    Unreachable {
        /// URL of the page.
        url: String,
        /// What happened.
        detail: String,
    },
    /// The worker requires authentication.
    #[error("failed to read {url}: the worker answered {status}; serve the metrics page without credentials")]
    Unauthorised {
        /// URL of the page.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The page exceeds a limit.
    #[error("failed to read {url}: {detail}")]
    LimitExceeded {
        /// URL of the page.
        url: String,
        /// What exceeds the limit, and the limit.
        detail: String,
    },
    /// The answer cannot be understood.
    #[error("failed to read {url}: unexpected answer: {detail}; check that it is a page of metrics")]
    Protocol {
        /// URL of the page.
        url: String,
        /// What is wrong with the answer.
        detail: String,
    },
}

impl ScrapeError {
    /// Returns the category for metrics and for the condition's reason.
    pub fn category(&self) -> Category {
        match self {
            Self::Forbidden(source) => source.category(),
            Self::Unreachable { .. } => Category::Unreachable,
            Self::Unauthorised { .. } => Category::Unauthorised,
            Self::LimitExceeded { .. } => Category::LimitExceeded,
            Self::Protocol { .. } => Category::Protocol,
        }
    }
}

/// Names of the metrics that are read from a worker (docs/worker-metrics.md).
mod metric {
    pub(super) const PROCESSED: &str = "sluice_worker_records_processed_total";
    pub(super) const IN_TIME: &str = "sluice_worker_records_in_time_total";
    pub(super) const BUSY: &str = "sluice_worker_busy_seconds_total";
    pub(super) const NEXT_OFFSET: &str = "sluice_worker_next_offset";
    pub(super) const STARTED: &str = "process_start_time_seconds";
    pub(super) const CPU: &str = "process_cpu_seconds_total";
    pub(super) const CONCURRENCY: &str = "sluice_worker_concurrency";
}

const WANTED: [&str; 7] = [
    metric::PROCESSED,
    metric::IN_TIME,
    metric::BUSY,
    metric::NEXT_OFFSET,
    metric::STARTED,
    metric::CPU,
    metric::CONCURRENCY,
];

/// Largest concurrency that is accepted: ten times what `spec.processing.concurrency` allows.
const MAX_CONCURRENCY: f64 = 100_000.0;

/// Largest page, in bytes. 10,000 positions take 1 MiB.
const MAX_PAGE_BYTES: usize = 2 << 20;

/// Maximum number of positions of a page. A worker has one for each partition that it owns.
const MAX_POSITIONS: usize = limits::MAX_PARTITIONS;

/// Maximum number of samples of a page that are read. A worker has a few, and one for each partition.
const MAX_SAMPLES: usize = 20_000;

/// The largest integer up to which every integer is a float.
const LARGEST_OFFSET: f64 = 9_007_199_254_740_992.0;

/// Reads workers over plain HTTP: without redirects, without a proxy, and at most 2 MiB.
#[derive(Debug, Clone)]
pub struct HttpScraper {
    client: reqwest::Client,
    clock: Clock,
    egress: Egress,
}

impl HttpScraper {
    /// Creates a scraper. `egress` determines where workers may be. Fails only if the HTTP client cannot be built.
    pub fn new(clock: Clock, egress: Egress) -> Result<Self, ScrapeError> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // One connection is kept for each worker, for a few intervals: long enough to reuse it, and soon closed
            // after the worker is gone.
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(15))
            .build()
            .map_err(|error| ScrapeError::Protocol { url: "any worker".to_owned(), detail: innermost_cause(&error) })?;
        Ok(Self { client, clock, egress })
    }

    async fn read(
        &self,
        worker: &WorkerEndpoint,
        topics: &[String],
        deadline: Duration,
    ) -> Result<WorkerSample, ScrapeError> {
        self.egress.check(worker.address)?;
        // The slash keeps the path a path: "@elsewhere/" would name another host.
        let url = format!("http://{}/{}", worker.address, worker.path.trim_start_matches('/'));
        let failed =
            |error: &reqwest::Error| ScrapeError::Unreachable { url: url.clone(), detail: innermost_cause(error) };
        let at = self.clock.now();
        let request = self.client.get(&url).header("accept", "text/plain;version=0.0.4").timeout(deadline);
        let mut response = request.send().await.map_err(|error| {
            if error.is_builder() {
                ScrapeError::Protocol { url: url.clone(), detail: innermost_cause(&error) }
            } else {
                failed(&error)
            }
        })?;
        match response.status().as_u16() {
            200 => {}
            status @ (401 | 403) => return Err(ScrapeError::Unauthorised { url, status }),
            status => {
                let detail = format!("the worker answered {status}; correct the port or the path");
                return Err(ScrapeError::Protocol { url, detail });
            }
        }
        let mut page = MetricsPage::new(topics);
        let mut lines = LineSplitter::default();
        let mut size = 0;
        while let Some(piece) = response.chunk().await.map_err(|error| failed(&error))? {
            size += piece.len();
            if size > MAX_PAGE_BYTES {
                let detail = format!("the page is larger than {} MiB; serve fewer metrics there", MAX_PAGE_BYTES >> 20);
                return Err(ScrapeError::LimitExceeded { url, detail });
            }
            lines.feed(&piece, |line| page.read_line(line));
            if page.positions.len() > MAX_POSITIONS {
                let detail =
                    format!("the page has more than {MAX_POSITIONS} positions; publish only those the worker owns");
                return Err(ScrapeError::LimitExceeded { url, detail });
            }
        }
        lines.finish(|line| page.read_line(line));
        page.into_sample(at).map_err(|detail| ScrapeError::Protocol { url, detail })
    }
}

impl Scrape for HttpScraper {
    fn scrape<'a>(
        &'a self,
        worker: &'a WorkerEndpoint,
        topics: &'a [String],
        deadline: Duration,
    ) -> BoxFuture<'a, Result<WorkerSample, ScrapeError>> {
        self.read(worker, topics, deadline).boxed()
    }
}

/// The metrics found on a page so far.
///
/// Architecture invariant: unknown is not zero. A sum with an invalid part is unknown as a whole, because the rest of
/// it would look like a counter that fell.
#[derive(Debug, Default)]
pub struct MetricsPage<'a> {
    /// Topics of the job, sorted.
    topics: &'a [String],
    processed: Sum,
    in_time: Sum,
    busy: Sum,
    cpu: Sum,
    started: Sum,
    concurrency: Sum,
    /// By index of the topic and partition number, so that the memory does not depend on the topic names of the page.
    positions: BTreeMap<(usize, u32), i64>,
    samples: usize,
    errors: usize,
}

/// A sum over label sets.
#[derive(Debug, Clone, Copy, Default)]
enum Sum {
    #[default]
    Absent,
    Known(f64),
    /// A part was NaN, negative, infinite or malformed.
    Unknown,
}

impl Sum {
    fn add(&mut self, value: f64) {
        let sum = self.value().unwrap_or(0.0) + value;
        *self = match *self {
            Self::Unknown => Self::Unknown,
            // The sum of two finite parts may be infinite.
            _ if value < 0.0 || !sum.is_finite() => Self::Unknown,
            Self::Absent | Self::Known(_) => Self::Known(sum),
        };
    }

    fn value(self) -> Option<f64> {
        match self {
            Self::Known(sum) => Some(sum),
            Self::Absent | Self::Unknown => None,
        }
    }
}

impl<'a> MetricsPage<'a> {
    /// Creates an empty page of a worker whose job reads these topics, which must be sorted.
    pub fn new(topics: &'a [String]) -> Self {
        Self { topics, ..Self::default() }
    }

    /// Reads one line, without its line feed.
    pub fn read_line(&mut self, line: &[u8]) {
        match prometheus_text::parse_line(line, is_wanted) {
            Line::Other => {}
            Line::Malformed { name } => {
                self.errors += 1;
                self.mark_unknown(name);
            }
            Line::Sample(sample) => {
                self.samples += 1;
                if self.samples > MAX_SAMPLES {
                    self.errors += 1;
                    self.mark_unknown(sample.name);
                } else if sample.name == metric::NEXT_OFFSET {
                    self.read_position(sample);
                } else if let Some(sum) = self.sum_of(sample.name) {
                    sum.add(sample.value);
                }
            }
        }
    }

    /// Returns the number of wanted lines that could not be parsed.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// Returns the sample; an error if the page has none of a worker's metrics.
    pub fn into_sample(self, at: Seconds) -> Result<WorkerSample, String> {
        if self.samples == 0 && self.errors == 0 {
            return Err(
                "the page has none of the metrics of docs/worker-metrics.md; correct the port or the path".to_owned()
            );
        }
        if self.errors > 0 {
            debug!(errors = self.errors, "malformed lines on a worker's metrics page");
        }
        Ok(WorkerSample {
            at,
            started_at: self.started.value().map(Seconds),
            processed: self.processed.value(),
            in_time: self.in_time.value(),
            busy_seconds: self.busy.value(),
            cpu_seconds: self.cpu.value(),
            concurrency: self.concurrency.value().and_then(concurrency_from),
            positions: self
                .positions
                .into_iter()
                .filter_map(|((topic, partition), offset)| {
                    Some((format!("{}/{partition}", self.topics.get(topic)?), offset))
                })
                .collect(),
        })
    }

    fn read_position(&mut self, sample: MetricSample<'_>) {
        let (topic, partition) = (sample.labels.get("topic"), sample.labels.get("partition"));
        let partition = partition.and_then(|number| number.parse::<u32>().ok());
        match (topic, partition) {
            (Some(topic), Some(partition)) if (0.0..=LARGEST_OFFSET).contains(&sample.value) => {
                // Positions in other topics are not needed.
                let Ok(place) = self.topics.binary_search_by(|each| each.as_str().cmp(&topic)) else { return };
                // One more than the maximum shows that there are too many.
                if self.positions.len() <= MAX_POSITIONS {
                    #[allow(
                        clippy::cast_possible_truncation,
                        reason = "within the integers that a float counts by ones"
                    )]
                    self.positions.insert((place, partition), sample.value as i64);
                }
            }
            _ => self.errors += 1,
        }
    }

    fn mark_unknown(&mut self, name: &str) {
        if let Some(sum) = self.sum_of(name) {
            *sum = Sum::Unknown;
        }
    }

    fn sum_of(&mut self, name: &str) -> Option<&mut Sum> {
        match name {
            metric::PROCESSED => Some(&mut self.processed),
            metric::IN_TIME => Some(&mut self.in_time),
            metric::BUSY => Some(&mut self.busy),
            metric::STARTED => Some(&mut self.started),
            metric::CPU => Some(&mut self.cpu),
            metric::CONCURRENCY => Some(&mut self.concurrency),
            _ => None,
        }
    }
}

fn is_wanted(metric: &str) -> bool {
    // This prefix sorts out most of the names of a page.
    (metric.starts_with("sluice_worker_") || metric.starts_with("process_")) && WANTED.contains(&metric)
}

/// Returns a concurrency; `None` unless it is a whole number of at least 1.
fn concurrency_from(value: f64) -> Option<u32> {
    let is_valid = value.fract() == 0.0 && (1.0..=MAX_CONCURRENCY).contains(&value);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small whole number")]
    is_valid.then_some(value as u32)
}

/// Returns the innermost cause: reqwest's own message repeats the address.
fn innermost_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string().chars().take(120).collect()
}

#[cfg(test)]
mod tests;
