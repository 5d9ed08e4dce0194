//! Load generator: writes records to a topic at the rates of a trace. Used by the demo and the tests.

pub mod profile;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::body::Bytes;
use krafka::admin::NewTopic;
use krafka::error::ErrorCode;
use krafka::interceptor::{InterceptorResult, ProducerInterceptor, RecordContext};
use krafka::producer::{Producer, RecordMetadata};
use krafka::{CloseOptions, Kafka, KrafkaError, Record};
use tokio_util::sync::CancellationToken;

use self::profile::{LoadProfile, Spread};
use sluice_base::clock::Clock;

/// How often records are sent: finer than any latency worth measuring, and coarse enough for batches.
const TICK: Duration = Duration::from_millis(10);
/// Records that are overdue by more than this are given up: catching up would be a burst that the trace does not have.
const CATCH_UP_SECONDS: f64 = 0.5;
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How long the producer may wait for the topic's metadata, or for room in its buffer.
const LONGEST_BLOCK: Duration = Duration::from_secs(10);
/// How long the broker may take to acknowledge the last records.
const LAST_ACKNOWLEDGEMENTS: Duration = Duration::from_secs(10);
/// Fraction of the due records that may be missing.
const TOLERANCE: f64 = 0.05;

/// Where the records go, and their form.
#[derive(Debug, Clone)]
pub struct Target {
    /// Bootstrap servers: host:port, separated by commas.
    pub bootstrap_servers: String,
    /// Name of the topic.
    pub topic: String,
    /// Number of partitions with which a missing topic is created; `None` to create none.
    pub create_partitions: Option<i32>,
    /// Size of each record's value in bytes.
    pub record_bytes: usize,
    /// Number of keys; the producer chooses the partition by the key's hash. `None` for records without keys, which
    /// take turns.
    pub keys: Option<u32>,
    /// Skew over the keys, or over the partitions without keys; 0 is even (see [`Spread`]).
    pub skew: f64,
}

/// The progress of a replay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Time since the beginning, in seconds.
    pub seconds: f64,
    /// Current rate of the load profile, in records per second.
    pub target_rate: f64,
    /// Rate of acknowledged records since the last progress, in records per second.
    pub actual_rate: f64,
    /// Number of records due so far.
    pub due: f64,
    /// Number of records acknowledged so far.
    pub acknowledged: u64,
    /// Number of records refused by the broker so far.
    pub failed: u64,
}

impl Progress {
    /// Returns whether at least 95 % of the due records have arrived.
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub fn kept_pace(&self) -> bool {
        // One more record may be missing, for profiles so short that a record is more than the tolerance.
        self.acknowledged as f64 + 1.0 >= self.due * (1.0 - TOLERANCE)
    }
}

/// Why a replay could not begin, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The brokers do not answer.
    #[error("failed to connect to {servers}: {source}")]
    Connect {
        /// Bootstrap servers.
        servers: String,
        /// Error of the client.
        source: KrafkaError,
    },
    /// The topic cannot be created or written to.
    #[error("failed to use the topic {topic}: {source}; pass --partitions-created N to create a missing topic")]
    Topic {
        /// Name of the topic.
        topic: String,
        /// Error of the client.
        source: KrafkaError,
    },
}

/// Counts acknowledged and failed records.
#[derive(Debug, Default)]
struct Outcomes {
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

impl ProducerInterceptor for Outcomes {
    fn on_acknowledgement(
        &self,
        _: &str,
        _: i32,
        result: Result<&RecordMetadata, &KrafkaError>,
        _: &krafka::Headers,
        _: &mut RecordContext,
    ) -> InterceptorResult {
        let counter = if result.is_ok() { &self.acknowledged } else { &self.failed };
        counter.fetch_add(1, Relaxed);
        Ok(())
    }
}

/// Sends the profile's records to the target in real time, until its end or `stop`.
///
/// `on_progress` is called once a second and at the end. The rate exceeds the profile's peak for at most half a second.
pub async fn replay(
    profile: &LoadProfile,
    target: &Target,
    clock: Clock,
    stop: CancellationToken,
    mut on_progress: impl FnMut(&Progress),
) -> Result<Progress, Error> {
    let outcomes = Arc::new(Outcomes::default());
    let (producer, partitions) = connect(target, Arc::clone(&outcomes)).await?;
    let mut sender = Sender::new(target, producer, partitions);

    let begin = clock.monotonic();
    let (mut last_seconds, mut last_acknowledged, mut actual_rate) = (0.0, 0, 0.0);
    let mut progress = |seconds: f64| {
        let acknowledged = outcomes.acknowledged.load(Relaxed);
        // The last progress may follow the previous one too soon for a rate.
        if seconds - last_seconds > 0.1 {
            #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
            let records = (acknowledged - last_acknowledged) as f64;
            actual_rate = records / (seconds - last_seconds);
            (last_seconds, last_acknowledged) = (seconds, acknowledged);
        }
        Progress {
            seconds,
            target_rate: profile.rate(seconds),
            actual_rate,
            due: profile.due(seconds),
            acknowledged,
            failed: outcomes.failed.load(Relaxed),
        }
    };

    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut next_progress = PROGRESS_EVERY;
    let mut given_up = 0.0;
    let (mut elapsed, mut rate_before) = (Duration::ZERO, 0.0_f64);
    while elapsed.as_secs_f64() < profile.seconds() && stop.run_until_cancelled(ticks.tick()).await.is_some() {
        elapsed = clock.monotonic().saturating_duration_since(begin);
        let seconds = elapsed.as_secs_f64().min(profile.seconds());
        let due = profile.due(seconds) - given_up;
        // Records that are due now became due since the last tick, when another rate may have applied.
        let rate = profile.rate(seconds);
        let (count, missed) = to_send(due, sender.sent, rate.max(rate_before));
        rate_before = rate;
        given_up += missed;
        if stop.run_until_cancelled(sender.send(count)).await.is_none() {
            break;
        }
        if elapsed >= next_progress {
            next_progress += PROGRESS_EVERY;
            on_progress(&progress(seconds));
        }
    }
    let options = CloseOptions::new().timeout(LAST_ACKNOWLEDGEMENTS);
    if let Err(error) = sender.producer.close_with(options).await {
        tracing::warn!(%error, "not all of the last records were acknowledged");
    }
    let end = progress(elapsed.as_secs_f64().min(profile.seconds()));
    on_progress(&end);
    Ok(end)
}

/// Returns how many records to send now, and how many overdue ones to give up.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 2^52")]
fn to_send(due: f64, sent: u64, rate: f64) -> (u64, f64) {
    let waiting = (due - sent as f64).max(0.0);
    let most = (rate * CATCH_UP_SECONDS).max(1.0);
    let missed = (waiting - most).max(0.0);
    ((waiting - missed) as u64, missed)
}

struct Sender<'a> {
    target: &'a Target,
    producer: Producer,
    partitions: Vec<i32>,
    spread: Spread,
    sent: u64,
    value: Bytes,
}

impl<'a> Sender<'a> {
    fn new(target: &'a Target, producer: Producer, partitions: Vec<i32>) -> Self {
        let bins = target.keys.unwrap_or_else(|| u32::try_from(partitions.len()).unwrap_or(u32::MAX));
        Self {
            target,
            producer,
            partitions,
            spread: Spread::new(bins, target.skew),
            sent: 0,
            value: vec![b'x'; target.record_bytes].into(),
        }
    }

    async fn send(&mut self, count: u64) {
        for _ in 0..count {
            let bin = self.spread.bin(self.sent);
            let mut record = Record::new(self.target.topic.as_str(), self.value.clone());
            if self.target.keys.is_some() {
                record = record.key(format!("key-{bin}"));
            } else {
                record.partition = usize::try_from(bin).ok().and_then(|bin| self.partitions.get(bin)).copied();
            }
            self.sent += 1;
            // A record that cannot be queued within the producer's time limit is counted as failed by the interceptor.
            drop(self.producer.enqueue(record).await);
        }
    }
}

async fn connect(target: &Target, outcomes: Arc<Outcomes>) -> Result<(Producer, Vec<i32>), Error> {
    let refused = |source| Error::Connect { servers: target.bootstrap_servers.clone(), source };
    let unusable = |source| Error::Topic { topic: target.topic.clone(), source };
    let kafka = Kafka::builder(&target.bootstrap_servers).client_id("sluice-load").connect().await.map_err(refused)?;
    if let Some(partitions) = target.create_partitions {
        let topic = NewTopic::new(&target.topic, partitions, -1).map_err(unusable)?;
        // Latency is measured from the time at which a record was appended.
        let topic = topic.with_config("message.timestamp.type", "LogAppendTime");
        let created = kafka.admin().create_topics([topic], krafka::admin::CreateTopicsOptions::default()).await;
        for (_, outcome) in created.map_err(refused)? {
            match outcome {
                Ok(()) | Err(KrafkaError::Broker { code: ErrorCode::TopicAlreadyExists, .. }) => {}
                Err(error) => return Err(unusable(error)),
            }
        }
    }
    // Idempotent, which is krafka's default: duplicates would distort the count of lost records.
    let producer = kafka.producer().metrics_push(false).max_block(LONGEST_BLOCK).interceptor(outcomes);
    let producer = producer.build().await.map_err(refused)?;
    let partitions = producer.partitions_for(&target.topic).await.map_err(unusable)?;
    Ok((producer, partitions.iter().map(|partition| partition.partition).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overdue_records_are_given_up_instead_of_a_burst() {
        assert_eq!(to_send(10.0, 0, 1000.0), (10, 0.0));
        assert_eq!(to_send(10.7, 10, 1000.0), (0, 0.0), "fractions wait for the next tick");
        assert_eq!(to_send(5000.0, 0, 1000.0), (500, 4500.0));
        assert_eq!(to_send(3.0, 9, 1000.0), (0, 0.0));
        assert_eq!(to_send(5.0, 4, 0.0), (1, 0.0), "the last record of a step that ends in silence");
    }

    #[test]
    fn load_keeps_pace_with_five_percent_missing() {
        let progress = |due, acknowledged| Progress {
            seconds: 1.0,
            target_rate: 0.0,
            actual_rate: 0.0,
            due,
            acknowledged,
            failed: 0,
        };
        assert!(progress(1000.0, 950).kept_pace());
        assert!(!progress(1000.0, 948).kept_pace());
        assert!(progress(0.0, 0).kept_pace());
    }
}
