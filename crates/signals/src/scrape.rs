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
use super::sample::{Category, WorkerEndpoint, WorkerSample};
use super::text::{self, Line, Lines, Sample};
use sluice_base::clock::Clock;
use sluice_base::units::Seconds;

/// How workers are read.
pub trait Scrape: Send + Sync {
    /// One look at a worker's page, within `deadline`. Of its positions only those in `topics`, which are sorted, are kept.
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
    /// More than a worker may say.
    #[error("failed to read {url}: {detail}")]
    LimitExceeded {
        /// The page.
        url: String,
        /// What was too much, and the limit.
        detail: String,
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
            Self::LimitExceeded { .. } => Category::LimitExceeded,
            Self::Protocol { .. } => Category::Protocol,
        }
    }
}

/// The metrics that a worker is asked for (docs/worker-metrics.md).
mod name {
    pub(super) const PROCESSED: &str = "sluice_worker_records_processed_total";
    pub(super) const IN_TIME: &str = "sluice_worker_records_in_time_total";
    pub(super) const BUSY: &str = "sluice_worker_busy_seconds_total";
    pub(super) const NEXT_OFFSET: &str = "sluice_worker_next_offset";
    pub(super) const STARTED: &str = "process_start_time_seconds";
    pub(super) const CPU: &str = "process_cpu_seconds_total";
    pub(super) const CONCURRENCY: &str = "sluice_worker_concurrency";
}

const WANTED: [&str; 7] =
    [name::PROCESSED, name::IN_TIME, name::BUSY, name::NEXT_OFFSET, name::STARTED, name::CPU, name::CONCURRENCY];

/// More records at the same time than that are no number of lanes; ten times what `spec.processing.concurrency` allows.
const MOST_LANES: f64 = 100_000.0;

/// Largest page, in bytes. 10,000 positions are 1 MiB.
const LARGEST_PAGE: usize = 2 << 20;

/// Most positions of a page: a worker has one for each partition that it reads.
const MOST_POSITIONS: usize = limits::MOST_PARTITIONS;

/// Most samples of a page that are taken; a worker has a few, and one for each partition.
const MOST_SAMPLES: usize = 20_000;

/// The largest integer up to which a float counts by ones.
const LARGEST_OFFSET: f64 = 9_007_199_254_740_992.0;

/// Reads workers over plain HTTP: no redirects, no proxy, no more than 2 MiB, none of it kept.
#[derive(Debug, Clone)]
pub struct HttpScraper {
    client: reqwest::Client,
    clock: Clock,
    egress: Egress,
}

impl HttpScraper {
    /// `egress` says where workers may be. Fails only if the HTTP client cannot be built.
    pub fn new(clock: Clock, egress: Egress) -> Result<Self, ScrapeError> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // One connection is kept for each worker, for a few intervals: enough to reuse it, soon gone with the worker.
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(15))
            .build()
            .map_err(|error| ScrapeError::Protocol { url: "any worker".to_owned(), detail: words(&error) })?;
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
        let failed = |error: &reqwest::Error| ScrapeError::Unreachable { url: url.clone(), detail: words(error) };
        let at = self.clock.now();
        let request = self.client.get(&url).header("accept", "text/plain;version=0.0.4").timeout(deadline);
        let mut response = request.send().await.map_err(|error| {
            if error.is_builder() {
                ScrapeError::Protocol { url: url.clone(), detail: words(&error) }
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
        let mut page = Page::of(topics);
        let mut lines = Lines::default();
        let mut size = 0;
        while let Some(piece) = response.chunk().await.map_err(|error| failed(&error))? {
            size += piece.len();
            if size > LARGEST_PAGE {
                let detail = format!("the page is larger than {} MiB; serve fewer metrics there", LARGEST_PAGE >> 20);
                return Err(ScrapeError::LimitExceeded { url, detail });
            }
            lines.feed(&piece, |line| page.line(line));
            if page.positions.len() > MOST_POSITIONS {
                let detail =
                    format!("the page has more than {MOST_POSITIONS} positions; write those that the worker reads");
                return Err(ScrapeError::LimitExceeded { url, detail });
            }
        }
        lines.finish(|line| page.line(line));
        page.sample(at).map_err(|detail| ScrapeError::Protocol { url, detail })
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

/// What was found on a page so far.
///
/// Architecture invariant: unknown is not zero. A sum with a part that is not a count is unknown as a whole, because the
/// rest of it would look like a counter that fell.
#[derive(Debug, Default)]
pub struct Page<'a> {
    /// Of the job, sorted.
    topics: &'a [String],
    processed: Sum,
    in_time: Sum,
    busy: Sum,
    cpu: Sum,
    started: Sum,
    concurrency: Sum,
    /// By the topic's place and the partition, so that a page takes no more room than what it counts.
    positions: BTreeMap<(usize, u32), i64>,
    samples: usize,
    errors: usize,
}

/// A sum over label sets.
#[derive(Debug, Clone, Copy, Default)]
enum Sum {
    #[default]
    Absent,
    Of(f64),
    /// With a part that is NaN, negative, infinite or malformed.
    Unknown,
}

impl Sum {
    fn add(&mut self, value: f64) {
        let sum = self.value().unwrap_or(0.0) + value;
        *self = match *self {
            Self::Unknown => Self::Unknown,
            // Two parts that are finite may come to infinity.
            _ if value < 0.0 || !sum.is_finite() => Self::Unknown,
            Self::Absent | Self::Of(_) => Self::Of(sum),
        };
    }

    fn value(self) -> Option<f64> {
        match self {
            Self::Of(sum) => Some(sum),
            Self::Absent | Self::Unknown => None,
        }
    }
}

impl<'a> Page<'a> {
    /// A page of a worker of a job that reads these topics, sorted.
    pub fn of(topics: &'a [String]) -> Self {
        Self { topics, ..Self::default() }
    }

    /// Takes one line, without its line feed.
    pub fn line(&mut self, line: &[u8]) {
        match text::line(line, is_wanted) {
            Line::Other => {}
            Line::Malformed { name } => {
                self.errors += 1;
                self.unknown(name);
            }
            Line::Sample(sample) => {
                self.samples += 1;
                if self.samples > MOST_SAMPLES {
                    self.errors += 1;
                    self.unknown(sample.name);
                } else if sample.name == name::NEXT_OFFSET {
                    self.position(sample);
                } else if let Some(sum) = self.sum(sample.name) {
                    sum.add(sample.value);
                }
            }
        }
    }

    /// Lines that were asked for and could not be understood.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// The sample; an error if there was nothing on the page that is a worker's.
    pub fn sample(self, at: Seconds) -> Result<WorkerSample, String> {
        if self.samples == 0 && self.errors == 0 {
            return Err(
                "the page has none of the metrics of docs/worker-metrics.md; correct the port or the path".to_owned()
            );
        }
        if self.errors > 0 {
            debug!(errors = self.errors, "some lines of a worker's metrics are malformed");
        }
        Ok(WorkerSample {
            at,
            started_at: self.started.value().map(Seconds),
            processed: self.processed.value(),
            in_time: self.in_time.value(),
            busy_seconds: self.busy.value(),
            cpu_seconds: self.cpu.value(),
            concurrency: self.concurrency.value().and_then(lanes),
            positions: self
                .positions
                .into_iter()
                .filter_map(|((topic, partition), offset)| {
                    Some((format!("{}/{partition}", self.topics.get(topic)?), offset))
                })
                .collect(),
        })
    }

    fn position(&mut self, sample: Sample<'_>) {
        let (topic, partition) = (sample.labels.get("topic"), sample.labels.get("partition"));
        let partition = partition.and_then(|number| number.parse::<u32>().ok());
        match (topic, partition) {
            (Some(topic), Some(partition)) if (0.0..=LARGEST_OFFSET).contains(&sample.value) => {
                // Of another topic it is of no use.
                let Ok(place) = self.topics.binary_search_by(|each| each.as_str().cmp(&topic)) else { return };
                // One more tells that there are too many.
                if self.positions.len() <= MOST_POSITIONS {
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

    fn unknown(&mut self, name: &str) {
        if let Some(sum) = self.sum(name) {
            *sum = Sum::Unknown;
        }
    }

    fn sum(&mut self, name: &str) -> Option<&mut Sum> {
        match name {
            name::PROCESSED => Some(&mut self.processed),
            name::IN_TIME => Some(&mut self.in_time),
            name::BUSY => Some(&mut self.busy),
            name::STARTED => Some(&mut self.started),
            name::CPU => Some(&mut self.cpu),
            name::CONCURRENCY => Some(&mut self.concurrency),
            _ => None,
        }
    }
}

fn is_wanted(metric: &str) -> bool {
    // Most names of a page are told apart by these few bytes.
    (metric.starts_with("sluice_worker_") || metric.starts_with("process_")) && WANTED.contains(&metric)
}

/// A number of records that are worked on at the same time. What is no whole number of at least 1 is not one.
fn lanes(value: f64) -> Option<u32> {
    let is_lanes = value.fract() == 0.0 && (1.0..=MOST_LANES).contains(&value);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small whole number")]
    is_lanes.then_some(value as u32)
}

/// The innermost cause: reqwest's own words repeat the address.
fn words(error: &reqwest::Error) -> String {
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
