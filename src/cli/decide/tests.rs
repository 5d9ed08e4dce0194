//! Tests of the formats in `docs/decide.md`.

use std::cell::RefCell;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use sluice_api::status::StreamJobStatus;
use sluice_base::units::Seconds;
use sluice_policy::Decision;
use sluice_simulate::{Faults, Load, Rule, Scenario};

fn settings() -> Settings {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/orders.yaml");
    jobfile::read(&path, None).unwrap_or_else(|error| panic!("{error}")).settings
}

struct Output {
    text: String,
    lines: Vec<Value>,
    counts: Counts,
    warnings: Vec<String>,
}

fn decided(input: &str) -> Output {
    decided_from(Memory::default(), input)
}

fn decided_from(memory: Memory, input: &str) -> Output {
    let (mut output, warnings) = (Vec::new(), RefCell::new(Vec::new()));
    let warn = |warning: &str| warnings.borrow_mut().push(warning.to_owned());
    let counts = decide_lines(input.as_bytes(), &mut output, &settings(), memory, warn).unwrap();
    let text = String::from_utf8(output).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Output { text, lines, counts, warnings: warnings.into_inner() }
}

/// The example observation of `docs/decide.md`.
const EXAMPLE: &str = r#"{"at": 1764000000.0, "replicas": {"desired": 4, "existing": 4, "ready": 4}, "partitions": [{"id": "orders/0", "source": "orders", "at": 1763999999.2, "end": 123456, "committed": 123400, "position": 123441, "dueEnd": 123440, "owner": "w-1"}], "groups": [{"source": "orders", "state": "Stable", "assignor": "cooperative-sticky"}], "workers": [{"id": "w-1", "at": 1763999998.0, "createdAt": 1763999950.0, "startedAt": 1763999952.0, "ready": true, "terminating": false, "template": "7c9f", "processed": 123400, "inTime": 123100, "busySeconds": 812.4, "cpuSeconds": 700.1, "bySource": null}], "limits": {"granted": null, "unschedulable": 0, "crashLooping": 0}}"#;

#[test]
fn the_documented_example_is_decided_without_a_warning() {
    let output = decided(EXAMPLE);
    assert_eq!((output.counts.lines, output.counts.invalid), (1, 0));
    assert!(output.warnings.is_empty(), "{:?}", output.warnings);
    let decision = &output.lines[0];
    assert_eq!((decision["at"].as_f64(), decision["desired"].as_u64()), (Some(1_764_000_000.0), Some(4)));
    assert!(decision["explain"]["lag"].is_number() && decision["message"].is_string(), "{decision}");
}

#[test]
fn an_invalid_line_gets_an_error_and_later_lines_are_decided() {
    let bad = [
        (
            r#"{"at": 1, "replicas": {"desired": "4"}}"#,
            "replicas.desired",
            "invalid type: string \"4\"",
            "a whole number from 0 to 4294967295, or null",
        ),
        (
            r#"{"at": 1, "replicas": {"desired": -4}}"#,
            "replicas.desired",
            "invalid value: integer `-4`",
            "a whole number from 0 to 4294967295, or null",
        ),
        (
            r#"{"at": 1, "partitions": [{"id": "a/0"}, {"id": "a/1", "end": 1.5}]}"#,
            "partitions[1].end",
            "invalid type: floating point `1.5`",
            "a whole number, or null",
        ),
        (r#"{"at": 1, "partitions": [{"id": "a/0"}, {"end": 1}]}"#, "partitions[1]", "missing field `id`", ""),
        (r#"{"at": 1, "partitions": [[1, 2]]}"#, "partitions[0]", "invalid type: sequence", "an object"),
        (r#"{"at": 1, "partitions": {}}"#, "partitions", "invalid type: map", "a list"),
        (r#"{"replicas": {}}"#, "", "missing field `at`", ""),
        (r#"{"at": null}"#, "at", "invalid type: null", "a number"),
        (r#"{"at": 1e999}"#, "at", "number out of range", "one JSON object"),
        (r#"{"at": NaN}"#, "at", "invalid JSON", "a value; NaN and infinity are not JSON"),
        (r#"{"at": 1} {"at": 2}"#, "", "trailing characters", "one JSON object"),
        (r#"{"at": 1"#, "at", "EOF while parsing an object", "one complete JSON object"),
        (r#"{"at": 1, "at": 2}"#, "at", "duplicate field `at`", ""),
        ("[]", "", "invalid type: sequence", "an object"),
        ("hello", "", "invalid JSON", "a value"),
    ];
    for (line, field, reason, expected) in bad {
        let output = decided(&format!("{EXAMPLE}\n\n{line}\n{EXAMPLE}\n"));
        assert_eq!((output.counts.lines, output.counts.invalid), (3, 1), "{line}");
        let error = &output.lines[1]["error"];
        assert_eq!(error["line"], 3, "{error}");
        let text = format!("{} {}", error["reason"].as_str().unwrap(), error["expected"].as_str().unwrap_or_default());
        assert!(text.contains(reason) && text.contains(expected), "{line}: {error}");
        assert!(error.as_object().unwrap().contains_key("expected"), "{error}");
        assert!(error["field"].as_str().unwrap_or_default() == field, "{line}: {error}");
        assert!(output.lines[2]["action"].is_string(), "{line}");
    }
    let not_utf8 = [b"{\"at\": 1, \"partitions\": [{\"id\": \"".as_slice(), &[0xff], b"\"}]}\n"].concat();
    let mut output = Vec::new();
    let counts = decide_lines(not_utf8.as_slice(), &mut output, &settings(), Memory::default(), |_| {}).unwrap();
    assert_eq!(counts.invalid, 1);
}

#[test]
fn an_invalid_line_changes_no_later_decision() {
    let observed = observed(40);
    let clean = decided(&observed).text;
    let dirty = observed.lines().fold(String::new(), |text, line| text + "nonsense\n" + line + "\n\r\n");
    let decisions: Vec<String> =
        decided(&dirty).text.lines().skip(1).step_by(2).map(|line| format!("{line}\n")).collect();
    assert_eq!(decisions.concat(), clean);
}

#[test]
fn an_unknown_field_causes_one_warning() {
    let line = r#"{"at": 1, "partitons": [], "partitions": [{"id": "a/0", "commited": 1}, {"id": "a/1", "commited": 1}], "x": {"y": [1]}}"#;
    let output = decided(&format!("{EXAMPLE}\n{line}\n{line}\n"));
    assert_eq!(output.counts.invalid, 0);
    assert_eq!(
        output.warnings,
        [
            "line 2: ignored the unknown field partitons; did you mean partitions?",
            "line 2: ignored the unknown field partitions[].commited; did you mean committed?",
            "line 2: ignored the unknown field x",
        ]
    );
    let invented = (0..300).fold(String::new(), |text, number| text + &format!("{{\"at\": 1, \"f{number}\": 0}}\n"));
    assert_eq!(decided(&invented).warnings.len(), 100, "invented names must not fill the memory");
}

#[test]
fn null_and_absent_numbers_are_unknown() {
    let with = |partition: Value| {
        decided(&json!({"at": 5.0, "replicas": {"desired": 3}, "partitions": [partition]}).to_string()).text
    };
    assert_eq!(
        with(json!({"id": "a/0", "end": 5, "committed": null, "owner": null})),
        with(json!({"id": "a/0", "end": 5}))
    );
    assert_eq!(decided("{\"at\": 5.0}").lines[0]["desired"], Value::Null);
}

/// An input that returns one line for each read, and records how many lines of output there are by then.
struct OneByOne<'a> {
    lines: Vec<&'a str>,
    output: &'a RefCell<Vec<u8>>,
    output_lines: Vec<usize>,
}

impl Read for &mut OneByOne<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.output_lines.push(String::from_utf8_lossy(&self.output.borrow()).lines().count());
        let Some(line) = self.lines.pop() else { return Ok(0) };
        (&mut &mut *buffer).write_all(line.as_bytes())?;
        Ok(line.len())
    }
}

struct Shared<'a>(&'a RefCell<Vec<u8>>);

impl Write for Shared<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn each_decision_is_written_before_the_next_read() {
    let output = RefCell::new(Vec::new());
    let mut input = OneByOne {
        lines: vec!["{\"at\": 3}\n", "{\"at\": 2}\n", "{\"at\": 1}\n"],
        output: &output,
        output_lines: vec![],
    };
    decide_lines(&mut input, Shared(&output), &settings(), Memory::default(), |_| {}).unwrap();
    assert_eq!(input.output_lines, [0, 1, 2, 3]);
}

/// A policy that decides as the operator does and records each observation and decision as a line.
struct Recorder {
    settings: Settings,
    memory: Memory,
    last: Option<Decision>,
    /// One record for each start of the process.
    records: Vec<Record>,
}

#[derive(Default)]
struct Record {
    /// The job's status at the start, as stored by an API server.
    status: String,
    observations: String,
    decisions: String,
    changes: usize,
}

impl Recorder {
    fn new() -> Self {
        Self { settings: settings(), memory: Memory::default(), last: None, records: vec![Record::default()] }
    }

    fn record(&mut self, observation: &Observation, decision: &Decision) {
        let record = self.records.last_mut().unwrap();
        record.observations += &(serde_json::to_string(observation).unwrap() + "\n");
        record.decisions += &(serde_json::to_string(decision).unwrap() + "\n");
        record.changes += usize::from(decision.desired != observation.replicas.desired);
    }
}

impl Rule for Recorder {
    fn name(&self) -> String {
        "recorder".to_owned()
    }

    fn every(&self) -> f64 {
        2.0
    }

    fn decide(&mut self, observation: &Observation) -> Option<u32> {
        let mut observation = observation.clone();
        // Real observations are not at whole seconds, and no two samples are taken at the same time.
        observation.at = Seconds(observation.at.0 + 0.1);
        for (partition, delay) in observation.partitions.iter_mut().zip((0..).map(f64::from)) {
            partition.at = partition.at.map(|at| Seconds(at.0 - 0.013 * delay));
        }
        let decision = decide(&mut self.memory, &observation, &self.settings);
        self.record(&observation, &decision);
        let desired = decision.desired;
        self.last = Some(decision);
        desired
    }

    fn restart(&mut self) {
        let model = self.last.as_ref().map(|decision| sluice_operator::learned::model(&decision.explain.model));
        let status = serde_json::to_string(&StreamJobStatus { model, ..StreamJobStatus::default() }).unwrap();
        self.memory = memory_from(&status);
        self.records.push(Record { status, ..Record::default() });
    }
}

/// Returns the memory with which a new process of the operator starts for a job with this status.
fn memory_from(status: &str) -> Memory {
    let status: StreamJobStatus =
        if status.is_empty() { StreamJobStatus::default() } else { serde_json::from_str(status).unwrap() };
    Memory::with_prior(sluice_operator::learned::prior(&status))
}

/// Returns the records of a simulated run: the load steps up and oscillates, workers are killed, the source has an
/// outage, and the operator is restarted in the middle.
fn recorded(seconds: u16) -> Vec<Record> {
    let rate = |t: u16| if t < seconds / 3 { 1700.3 } else { 5100.7 + 900.0 * (f32::from(t) / 60.0).sin() };
    let faults = Faults {
        kill_every: Some(170.0),
        outage: Some(sluice_simulate::During::new(130.0, 150.0, ())),
        restart_at: Some(f64::from(seconds / 2)),
        ..Faults::default()
    };
    let scenario = Scenario { partitions: 24, faults, ..Scenario::default() };
    let mut recorder = Recorder::new();
    sluice_simulate::run(&Load::new((0..seconds).map(rate).collect()), &scenario, &mut recorder);
    recorder.records
}

/// Returns the first observations of a run.
fn observed(count: u16) -> String {
    recorded(2 * count).into_iter().map(|record| record.observations).collect()
}

/// The decisions of a run are reproduced from the lines alone: no number loses a digit in JSON. Of what was learned
/// before a restart, only the status is available.
#[test]
fn a_recorded_run_is_replayed_byte_for_byte() {
    let records = recorded(800);
    assert_eq!(records.len(), 2, "the operator was restarted once");
    for record in &records {
        assert!(record.changes >= 2, "a run with too few changes shows nothing: {}", record.changes);
        let replayed = decided_from(memory_from(&record.status), &record.observations);
        for (number, (expected, found)) in record.decisions.lines().zip(replayed.text.lines()).enumerate() {
            assert_eq!(expected, found, "line {}", number + 1);
        }
        assert_eq!(record.decisions, replayed.text);
        assert!(replayed.warnings.is_empty(), "{:?}", replayed.warnings);
        // A written decision can be read and written again without a change.
        for line in record.decisions.lines() {
            let decision: Decision = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&decision).unwrap(), line);
        }
    }
    let after = &records[1];
    assert!(after.status.contains("capacityPerWorker"), "{}", after.status);
    assert_ne!(decided(&after.observations).text, after.decisions, "the learned values in the status are used");
}
