//! `sluice worker`: the reference worker.

use std::io::IsTerminal as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, reload};

use sluice_api::fields::Duration;
use sluice_api::v1alpha1::LogLevel;
use sluice_base::clock::Clock;
use sluice_worker::{Cost, GroupProtocol, KafkaSettings, LeaveOnStop, Settings, Start};

/// The default port of /metrics, /livez and /readyz.
const PORT: u16 = 8080;

/// Arguments of `sluice worker`. Each can also be given in the environment.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Bootstrap servers of Kafka: host:port, separated by commas
    #[arg(long, env = "SLUICE_WORKER_BOOTSTRAP_SERVERS", value_name = "HOST:PORT,…")]
    bootstrap_servers: String,
    /// Read from this topic
    #[arg(long, env = "SLUICE_WORKER_TOPIC")]
    topic: String,
    /// Consumer group to join
    #[arg(long, env = "SLUICE_WORKER_GROUP")]
    group: String,
    /// Value of the metric label `source`: the source's name in the StreamJob [default: the topic]
    #[arg(long, env = "SLUICE_WORKER_SOURCE", value_name = "NAME")]
    source: Option<String>,
    /// Serve /metrics, /livez and /readyz at ADDRESS [default: port 8080 of `POD_IP`, else of all addresses]
    #[arg(long, env = "SLUICE_WORKER_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address of the pod: where pods share a network, each can then listen on the same port
    #[arg(long, env = "POD_IP", hide = true, default_value = "0.0.0.0")]
    pod_ip: IpAddr,
    /// Wait DURATION for each record; stands for a call to an external service
    #[arg(long, env = "SLUICE_WORKER_PROCESS_TIME", default_value = "0s", value_name = "DURATION", value_parser = duration)]
    process_time: std::time::Duration,
    /// Use DURATION of processor time for each record
    #[arg(long, env = "SLUICE_WORKER_CPU_TIME", default_value = "0s", value_name = "DURATION", value_parser = duration)]
    cpu_time: std::time::Duration,
    /// Group protocol; `consumer` (KIP-848) falls back to `classic` if the broker does not support it
    #[arg(long, env = "SLUICE_WORKER_GROUP_PROTOCOL", default_value = "classic")]
    group_protocol: GroupProtocol,
    /// Join the group DURATION after the start, but report ready at once; stands for a worker without a readiness check
    #[arg(long, env = "SLUICE_WORKER_JOIN_AFTER", default_value = "0s", value_name = "DURATION", value_parser = duration)]
    join_after: std::time::Duration,
    /// Commit offsets every DURATION
    #[arg(long, env = "SLUICE_WORKER_COMMIT_INTERVAL", default_value = "1s", value_name = "DURATION", value_parser = duration)]
    commit_interval: std::time::Duration,
    /// Where to start in a partition without a committed offset
    #[arg(long, env = "SLUICE_WORKER_START", default_value = "earliest")]
    start: Start,
    /// Keep the group membership across restarts (group.instance.id = name), for a StatefulSet
    #[arg(long, env = "SLUICE_WORKER_STATIC_MEMBERSHIP")]
    static_membership: bool,
    /// Whether a static member leaves the group when it stops; a dynamic member always leaves
    #[arg(long, env = "SLUICE_WORKER_LEAVE_ON_STOP", default_value = "always")]
    leave_on_stop: LeaveOnStop,
    /// With the classic protocol: leave the group after DURATION without a heartbeat
    #[arg(long, env = "SLUICE_WORKER_SESSION_TIMEOUT", default_value = "10s", value_name = "DURATION", value_parser = duration)]
    session_timeout: std::time::Duration,
    /// Stop within DURATION; must be less than the pod's termination grace period
    #[arg(long, env = "SLUICE_WORKER_DRAIN_TIMEOUT", default_value = "25s", value_name = "DURATION", value_parser = duration)]
    drain_timeout: std::time::Duration,
    /// Name of this worker, also its Kafka client id, which maps group members to pods
    /// [default: `POD_NAME`, else `HOSTNAME`, else the host's name]
    #[arg(long, env = "SLUICE_WORKER_NAME")]
    name: Option<String>,
    /// Follow the settings in the processing file PATH; the operator sets the environment variable
    #[arg(long, env = sluice_api::PROCESSING_FILE_ENV, value_name = "PATH")]
    processing_file: Option<PathBuf>,
    /// Print the totals as a line of JSON to stdout each second and at the end
    #[arg(long, env = "SLUICE_WORKER_TOTALS")]
    totals: bool,
    /// Format of log lines, which go to stderr
    #[arg(long, env = "SLUICE_WORKER_LOG_FORMAT", default_value = "json")]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Human-readable lines
    Text,
    /// One JSON object per line
    Json,
}

/// Parses a duration in Go's notation, as used everywhere in the API.
pub(super) fn duration(text: &str) -> Result<std::time::Duration, String> {
    let parsed: Duration = text.parse().map_err(|_| "expected a duration such as 500ms, 10s or 1h30m".to_owned())?;
    if parsed.is_negative() {
        return Err("expected a duration of zero or more".to_owned());
    }
    Ok(parsed.into())
}

pub(super) fn run(args: &Args) -> super::Outcome {
    let settings = args.settings()?;
    let log_level = start_log(args.log_format)?;
    // A record's work is a timer or runs on a blocking thread; two threads are enough for the rest.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let stop = super::stop_on_signal()?;
        let done = sluice_worker::run(&settings, Clock::system(), stop, log_level).await?;
        tracing::info!(processed = done.processed, in_time = done.in_time, skipped = done.skipped, "stopped");
        Ok(ExitCode::SUCCESS)
    })
}

impl Args {
    fn settings(&self) -> Result<Settings, Box<dyn std::error::Error + Send + Sync>> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => pod_or_host_name().ok_or("this host has no name and POD_NAME is not set; pass --name")?,
        };
        Ok(Settings {
            kafka: KafkaSettings {
                bootstrap_servers: self.bootstrap_servers.clone(),
                topic: self.topic.clone(),
                group: self.group.clone(),
                group_protocol: self.group_protocol,
                start: self.start,
                static_membership: self.static_membership,
                leave_on_stop: self.leave_on_stop,
                session_timeout: self.session_timeout,
            },
            source: self.source.clone().unwrap_or_else(|| self.topic.clone()),
            name,
            listen: self.listen.unwrap_or_else(|| SocketAddr::new(self.pod_ip, PORT)),
            cost: Cost { wait: self.process_time, cpu: self.cpu_time },
            join_after: self.join_after,
            commit_interval: self.commit_interval,
            drain_timeout: self.drain_timeout,
            processing_file: self.processing_file.clone(),
            totals: self.totals,
        })
    }
}

fn pod_or_host_name() -> Option<String> {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let given = |name: &str| std::env::var(name).ok().filter(|name| !name.is_empty());
    // The HOSTNAME of a container is the name of its pod, also where it has no host name of its own.
    let name = given("POD_NAME").or_else(|| given("HOSTNAME")).or_else(host)?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Starts logging to stderr and returns a function that sets the level.
fn start_log(
    format: LogFormat,
) -> Result<impl Fn(LogLevel) + Send + 'static, Box<dyn std::error::Error + Send + Sync>> {
    let (filter, handle) = reload::Layer::new(filter(LogLevel::Info));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init()?;
    Ok(move |level| {
        // This fails only when the subscriber no longer exists.
        let _ = handle.reload(self::filter(level));
    })
}

/// Returns the log filter of a level. What krafka logs at `info` is already in this worker's own lines. Its warnings
/// stay: it retries fetches by itself, so they are the only sign of an unavailable broker.
fn filter(level: LogLevel) -> EnvFilter {
    EnvFilter::new(match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info,krafka=warn",
        LogLevel::Debug => "info,sluice=debug,krafka=debug",
        LogLevel::Trace => "info,sluice=trace,krafka=trace",
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(flags: &str) -> Result<Settings, String> {
        let flags =
            ["worker", "--bootstrap-servers", "k:9092", "--topic", "orders", "--group", "g", "--name", "orders-0"]
                .into_iter()
                .chain(flags.split_whitespace());
        let line = Line::try_parse_from(flags).map_err(|error| error.to_string())?;
        line.args.settings().map_err(|error| error.to_string())
    }

    #[test]
    fn worker_defaults_lose_nothing_and_hand_over_fast() {
        let settings = parse("").unwrap();
        assert_eq!((settings.source.as_str(), settings.name.as_str()), ("orders", "orders-0"));
        assert_eq!(settings.kafka.start, Start::Earliest);
        assert_eq!(settings.kafka.group_protocol, GroupProtocol::Classic);
        assert_eq!(settings.kafka.leave_on_stop, LeaveOnStop::Always);
        assert_eq!(settings.cost.wait, std::time::Duration::ZERO);
    }

    #[test]
    fn a_worker_listens_on_the_address_of_its_pod() {
        let listen = |flags: &str| parse(flags).unwrap().listen.to_string();
        assert_eq!(listen("--pod-ip 127.64.0.1"), "127.64.0.1:8080");
        assert_eq!(listen("--pod-ip 127.64.0.1 --listen 127.0.0.1:1"), "127.0.0.1:1");
    }

    #[test]
    fn worker_durations_use_go_notation_and_are_not_negative() {
        let wait = |flags: &str| parse(flags).map(|settings| settings.cost.wait);
        assert_eq!(wait("--process-time 1ms").unwrap(), std::time::Duration::from_millis(1));
        assert!(wait("--process-time=-1ms").unwrap_err().contains("zero or more"));
        assert!(wait("--process-time 5").unwrap_err().contains("500ms, 10s or 1h30m"));
        assert!(parse("--group-protocol zookeeper").unwrap_err().contains("[possible values: classic, consumer]"));
    }
}
