//! GET of a pod's log, from the folder in which the node of this process writes it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::stream;
use jiff::Timestamp;
use serde_json::Value;

use super::Server;
use super::answer::Answer;
use super::call::Call;
use crate::logs::{self, LogOptions, Logs};
use crate::meta;
use crate::status::{FieldError, Status};

/// Interval between reads of a log that is followed, because nothing reports that a file has grown.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

pub(super) fn log(server: &Server, call: &Call) -> Result<Answer, Status> {
    let pod = server.store().get(&call.resource(), &call.key()).ok_or_else(|| call.not_found())?;
    let pod = &pod.value;
    let container = container(call, pod)?;
    if meta::text(pod, "/spec/nodeName").is_empty() {
        // A pod without a node has written nothing.
        return Ok(Answer::text(""));
    }
    let options = log_options(server, call)?;
    let run = run(call, pod, &container)?;
    let folder = server.0.logs.as_ref().map(|logs| logs.pod(&call.path.namespace, &call.path.name, meta::uid(pod)));
    let Some(folder) = folder.filter(|folder| folder.is_dir()) else {
        let node = meta::text(pod, "/spec/nodeName");
        let why = format!(
            "the logs of pod \"{}\" are not available here: node \"{node}\" is not part of this process; look in the log \
                 folder that the node prints when it starts",
            call.path.name
        );
        return Err(Status::internal(why));
    };
    let file = Logs::file(&folder, &container, run);
    let failed = |error: io::Error| Status::internal(format!("failed to read {}: {error}", file.display()));
    if call.query.flag("follow") {
        let follower = Follower::new(server.clone(), call, container, run, options, file.clone());
        let stream = stream::unfold(follower, |mut follower| async move {
            let chunk = follower.next().await?;
            Some((Ok::<_, std::convert::Infallible>(chunk), follower))
        });
        return Ok(Answer::stream(Body::from_stream(stream)).with_type("text/plain; charset=utf-8"));
    }
    let lines = logs::read(&file).map_err(failed)?;
    let lines = options.tail.map_or(lines.as_slice(), |count| logs::last(&lines, count));
    let mut text = options.render(lines);
    text.truncate(options.bytes.unwrap_or(text.len()));
    Ok(Answer::stream(Body::from(text)).with_type("text/plain; charset=utf-8"))
}

fn names<'a>(pod: &'a Value, list: &str) -> Vec<&'a str> {
    let list = pod.pointer(list).and_then(Value::as_array);
    list.into_iter().flatten().map(|container| meta::text(container, "/name")).collect()
}

/// Returns the container whose log is requested: the named one, or the only one.
fn container(call: &Call, pod: &Value) -> Result<String, Status> {
    let (own, init) = (names(pod, "/spec/containers"), names(pod, "/spec/initContainers"));
    let name = &call.path.name;
    match (call.query.get("container"), own.as_slice()) {
        ("", [only]) => Ok((*only).to_owned()),
        ("", _) => {
            let or = match init.as_slice() {
                [] => String::new(),
                init => format!(" or one of the init containers: [{}]", init.join(" ")),
            };
            let own = own.join(" ");
            let why = format!("a container name must be specified for pod {name}, choose one of: [{own}]{or}");
            Err(Status::bad_request(why))
        }
        (given, _) if own.contains(&given) || init.contains(&given) => Ok(given.to_owned()),
        (given, _) => Err(Status::bad_request(format!("container {given} is not valid for pod {name}"))),
    }
}

fn status<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    let lists = ["/status/containerStatuses", "/status/initContainerStatuses"];
    let all = lists.iter().filter_map(|list| pod.pointer(list)?.as_array()).flatten();
    all.into_iter().find(|status| meta::text(status, "/name") == container)
}

fn restarts(status: &Value) -> i32 {
    let count = status.get("restartCount").and_then(Value::as_i64).unwrap_or_default();
    i32::try_from(count).unwrap_or_default()
}

/// Returns the run of the container whose log is requested.
fn run(call: &Call, pod: &Value, container: &str) -> Result<i32, Status> {
    let name = &call.path.name;
    let waiting = |reason: &str| {
        let why = format!("container \"{container}\" in pod \"{name}\" is waiting to start: {reason}");
        Err(Status::bad_request(why))
    };
    let Some(status) = status(pod, container) else { return waiting("ContainerCreating") };
    let ended_before = status.pointer("/lastState/terminated").is_some();
    let is_waiting = status.pointer("/state/waiting").is_some();
    let count = restarts(status);
    if call.query.flag("previous") {
        if !ended_before {
            let why = format!("previous terminated container \"{container}\" in pod \"{name}\" not found");
            return Err(Status::bad_request(why));
        }
        // While the container waits for its next start, the last run counts as the previous one.
        return Ok(if is_waiting { count } else { count - 1 });
    }
    if is_waiting && !ended_before {
        return waiting(meta::text(status, "/state/waiting/reason"));
    }
    Ok(count)
}

fn log_options(server: &Server, call: &Call) -> Result<LogOptions, Status> {
    let invalid = |field: &str, value: &str, why: &str| {
        let error = FieldError::invalid(field, value, why);
        Status::invalid("", "PodLogOptions", &call.path.name, &[error])
    };
    let number = |name: &str, least: i64| match call.query.get(name) {
        "" => Ok(None),
        text => match text.parse::<i64>() {
            Ok(number) if number >= least => Ok(Some(number)),
            Ok(_) => Err(invalid(name, text, &format!("must be greater than or equal to {least}"))),
            Err(_) => Err(Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))),
        },
    };
    let size = |number: Option<i64>| number.and_then(|number| usize::try_from(number).ok());
    let ago = number("sinceSeconds", 1)?.map(|seconds| server.clock().unix().saturating_sub(seconds));
    let since = match call.query.get("sinceTime") {
        "" => ago.and_then(|unix| Timestamp::from_second(unix).ok()),
        text => Some(text.parse().map_err(|_| invalid("sinceTime", text, "must be a time in RFC 3339"))?),
    };
    Ok(LogOptions {
        tail: size(number("tailLines", 0)?),
        since,
        timestamps: call.query.flag("timestamps"),
        bytes: size(number("limitBytes", 1)?),
    })
}

/// A log that is read while it is being written.
struct Follower {
    server: Server,
    resource: crate::kinds::Resource,
    key: String,
    container: String,
    run: i32,
    options: LogOptions,
    path: PathBuf,
    /// The file that is being read. It may have become the older half since it was opened.
    file: Option<File>,
    /// An unfinished line.
    rest: Vec<u8>,
    begun: bool,
    left: usize,
}

impl Follower {
    fn new(server: Server, call: &Call, container: String, run: i32, options: LogOptions, path: PathBuf) -> Self {
        let left = options.bytes.unwrap_or(usize::MAX);
        let (resource, key) = (call.resource(), call.key());
        Self { server, resource, key, container, run, options, path, file: None, rest: Vec::new(), begun: false, left }
    }

    /// Returns the next output. `None`: the run is over and all its output has been sent.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            // Checked before reading, so that output from before the end of the run is not missed.
            let over = self.is_over();
            let lines = self.read();
            let lines = match self.options.tail.filter(|_| !self.begun) {
                Some(count) => logs::last(&lines, count),
                None => lines.as_slice(),
            };
            let mut text = self.options.render(lines);
            self.begun = true;
            text.truncate(self.left);
            self.left -= text.len();
            if !text.is_empty() {
                return Some(Bytes::from(text));
            }
            if over || self.left == 0 {
                return None;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn is_over(&self) -> bool {
        let Some(pod) = self.server.store().get(&self.resource, &self.key) else { return true };
        let Some(status) = status(&pod.value, &self.container) else { return false };
        restarts(status) > self.run || status.pointer("/state/running").is_none()
    }

    /// Returns the lines that have been added. A file that cannot be read counts as one without new lines.
    fn read(&mut self) -> Vec<logs::Line> {
        let mut bytes = std::mem::take(&mut self.rest);
        if self.file.is_none() {
            if !self.begun {
                // The older half does not change any more, so it is read once.
                let _ = File::open(Logs::older(&self.path)).and_then(|mut older| older.read_to_end(&mut bytes));
            }
            self.file = File::open(&self.path).ok();
        }
        if let Some(file) = &mut self.file {
            let _ = file.read_to_end(&mut bytes);
            if replaced(file, &self.path) {
                let _ = file.read_to_end(&mut bytes);
                self.file = None;
            }
        }
        let end = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
        self.rest = bytes.split_off(end);
        bytes.split(|byte| *byte == b'\n').filter_map(logs::parse).collect()
    }
}

/// Returns whether another file has replaced this one at its path.
fn replaced(file: &File, path: &Path) -> bool {
    let number = |data: io::Result<std::fs::Metadata>| data.map(|data| data.ino()).ok();
    matches!((number(file.metadata()), number(std::fs::metadata(path))), (Some(old), Some(new)) if old != new)
}

#[cfg(test)]
#[path = "logs_test.rs"]
mod tests;
