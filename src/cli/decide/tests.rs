//! The contract of `sluice decide`, line by line.

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

struct Answers {
    text: String,
    lines: Vec<Value>,
    counts: Counts,
    warnings: Vec<String>,
}

fn answers(input: &str) -> Answers {
    answers_from(Memory::default(), input)
}

fn answers_from(memory: Memory, input: &str) -> Answers {
    let (mut output, warnings) = (Vec::new(), RefCell::new(Vec::new()));
    let warn = |warning: &str| warnings.borrow_mut().push(warning.to_owned());
    let counts = answer(input.as_bytes(), &mut output, &settings(), memory, warn).unwrap();
    let text = String::from_utf8(output).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Answers { text, lines, counts, warnings: warnings.into_inner() }
}

/// The observation of the contract's own page.
const EXAMPLE: &str = r#"{"at": 1764000000.0, "replicas": {"desired": 4, "existing": 4, "ready": 4}, "partitions": [{"id": "orders/0", "source": "orders", "at": 1763999999.2, "end": 123456, "committed": 123400, "position": 123441, "dueEnd": 123440, "owner": "w-1"}], "groups": [{"source": "orders", "state": "Stable", "assignor": "cooperative-sticky"}], "workers": [{"id": "w-1", "at": 1763999998.0, "createdAt": 1763999950.0, "startedAt": 1763999952.0, "ready": true, "terminating": false, "template": "7c9f", "processed": 123400, "inTime": 123100, "busySeconds": 812.4, "cpuSeconds": 700.1, "bySource": null}], "limits": {"granted": null, "unschedulable": 0, "crashLooping": 0}}"#;

#[test]
fn the_example_of_the_contract_is_answered_without_a_warning() {
    let answers = answers(EXAMPLE);
    assert_eq!((answers.counts.lines, answers.counts.refused), (1, 0));
    assert!(answers.warnings.is_empty(), "{:?}", answers.warnings);
    let decision = &answers.lines[0];
    assert_eq!((decision["at"].as_f64(), decision["desired"].as_u64()), (Some(1_764_000_000.0), Some(4)));
    assert!(decision["explain"]["lag"].is_number() && decision["message"].is_string(), "{decision}");
}

#[test]
fn a_line_that_cannot_be_used_is_answered_in_its_place_and_the_rest_goes_on() {
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
        (r#"{"at": NaN}"#, "at", "this is not JSON", "a value; NaN and infinity are none"),
        (r#"{"at": 1} {"at": 2}"#, "", "trailing characters", "one JSON object"),
        (r#"{"at": 1"#, "at", "EOF while parsing an object", "one whole JSON object"),
        (r#"{"at": 1, "at": 2}"#, "at", "duplicate field `at`", ""),
        ("[]", "", "invalid type: sequence", "an object"),
        ("hello", "", "this is not JSON", "a value"),
    ];
    for (line, field, reason, expected) in bad {
        let answers = answers(&format!("{EXAMPLE}\n\n{line}\n{EXAMPLE}\n"));
        assert_eq!((answers.counts.lines, answers.counts.refused), (3, 1), "{line}");
        let error = &answers.lines[1]["error"];
        assert_eq!(error["line"], 3, "{error}");
        let told = format!("{} {}", error["reason"].as_str().unwrap(), error["expected"].as_str().unwrap_or_default());
        assert!(told.contains(reason) && told.contains(expected), "{line}: {error}");
        assert!(error.as_object().unwrap().contains_key("expected"), "{error}");
        assert!(error["field"].as_str().unwrap_or_default() == field, "{line}: {error}");
        assert!(answers.lines[2]["action"].is_string(), "{line}");
    }
    let not_utf8 = [b"{\"at\": 1, \"partitions\": [{\"id\": \"".as_slice(), &[0xff], b"\"}]}\n"].concat();
    let mut output = Vec::new();
    assert_eq!(answer(not_utf8.as_slice(), &mut output, &settings(), Memory::default(), |_| {}).unwrap().refused, 1);
}

#[test]
fn a_bad_line_changes_no_later_decision() {
    let observed = observed(40);
    let clean = answers(&observed).text;
    let dirty = observed.lines().fold(String::new(), |text, line| text + "nonsense\n" + line + "\n\r\n");
    let answered: Vec<String> =
        answers(&dirty).text.lines().skip(1).step_by(2).map(|line| format!("{line}\n")).collect();
    assert_eq!(answered.concat(), clean);
}

#[test]
fn an_unknown_field_is_warned_of_once() {
    let line = r#"{"at": 1, "partitons": [], "partitions": [{"id": "a/0", "commited": 1}, {"id": "a/1", "commited": 1}], "x": {"y": [1]}}"#;
    let answers = answers(&format!("{EXAMPLE}\n{line}\n{line}\n"));
    assert_eq!(answers.counts.refused, 0);
    assert_eq!(
        answers.warnings,
        [
            "line 2: unknown field partitons is not read; did you mean partitions?",
            "line 2: unknown field partitions[].commited is not read; did you mean committed?",
            "line 2: unknown field x is not read",
        ]
    );
    let invented = (0..300).fold(String::new(), |text, number| text + &format!("{{\"at\": 1, \"f{number}\": 0}}\n"));
    assert_eq!(super::tests::answers(&invented).warnings.len(), 100, "no stream can fill the memory with names");
}

#[test]
fn an_absent_number_is_unknown_and_null_is_absent() {
    let with = |partition: Value| {
        answers(&json!({"at": 5.0, "replicas": {"desired": 3}, "partitions": [partition]}).to_string()).text
    };
    assert_eq!(
        with(json!({"id": "a/0", "end": 5, "committed": null, "owner": null})),
        with(json!({"id": "a/0", "end": 5}))
    );
    assert_eq!(answers("{\"at\": 5.0}").lines[0]["desired"], Value::Null);
}

/// Gives one line for each read, and looks at what has been answered by then.
struct OneByOne<'a> {
    lines: Vec<&'a str>,
    answered: &'a RefCell<Vec<u8>>,
    seen: Vec<usize>,
}

impl Read for &mut OneByOne<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.seen.push(String::from_utf8_lossy(&self.answered.borrow()).lines().count());
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
fn whoever_waits_for_an_answer_gets_it_before_the_next_line() {
    let answered = RefCell::new(Vec::new());
    let mut input =
        OneByOne { lines: vec!["{\"at\": 3}\n", "{\"at\": 2}\n", "{\"at\": 1}\n"], answered: &answered, seen: vec![] };
    answer(&mut input, Shared(&answered), &settings(), Memory::default(), |_| {}).unwrap();
    assert_eq!(input.seen, [0, 1, 2, 3]);
}

/// Sluice as the operator runs it, and what it writes down: a line for each look, and one for each decision.
struct Recorder {
    settings: Settings,
    memory: Memory,
    last: Option<Decision>,
    /// One for each time that the process was started.
    records: Vec<Record>,
}

#[derive(Default)]
struct Record {
    /// The status that it found on the job, as an API server keeps it.
    status: String,
    seen: String,
    decided: String,
    changes: usize,
}

impl Recorder {
    fn new() -> Self {
        Self { settings: settings(), memory: Memory::default(), last: None, records: vec![Record::default()] }
    }

    fn note(&mut self, observation: &Observation, decision: &Decision) {
        let record = self.records.last_mut().unwrap();
        record.seen += &(serde_json::to_string(observation).unwrap() + "\n");
        record.decided += &(serde_json::to_string(decision).unwrap() + "\n");
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
        // Nothing happens at whole seconds, and no two samples are taken at once.
        observation.at = Seconds(observation.at.0 + 0.1);
        for (partition, delay) in observation.partitions.iter_mut().zip((0..).map(f64::from)) {
            partition.at = partition.at.map(|at| Seconds(at.0 - 0.013 * delay));
        }
        let decision = decide(&mut self.memory, &observation, &self.settings);
        self.note(&observation, &decision);
        let desired = decision.desired;
        self.last = Some(decision);
        desired
    }

    fn restart(&mut self) {
        let model = self.last.as_ref().map(|decision| sluice_operator::learned::model(&decision.explain.model));
        let status = serde_json::to_string(&StreamJobStatus { model, ..StreamJobStatus::default() }).unwrap();
        self.memory = begin(&status);
        self.records.push(Record { status, ..Record::default() });
    }
}

/// What a new process of the operator knows of a job with this status.
fn begin(status: &str) -> Memory {
    let status: StreamJobStatus =
        if status.is_empty() { StreamJobStatus::default() } else { serde_json::from_str(status).unwrap() };
    Memory::with_prior(sluice_operator::learned::prior(&status))
}

/// A simulated run: the load steps up and wanders, a worker dies, the source falls silent, and the operator is
/// restarted in the middle.
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

/// The first looks of a run.
fn observed(looks: u16) -> String {
    recorded(2 * looks).into_iter().map(|record| record.seen).collect()
}

/// What was decided in a run is decided again from the lines alone: no number loses a digit on its way through JSON. Of
/// what was learned before a restart the status is all that is left.
#[test]
fn a_recorded_run_is_replayed_byte_for_byte() {
    let records = recorded(800);
    assert_eq!(records.len(), 2, "the operator was restarted once");
    for record in &records {
        assert!(record.changes >= 2, "a run in which nothing happens shows nothing: {}", record.changes);
        let replayed = answers_from(begin(&record.status), &record.seen);
        for (number, (expected, found)) in record.decided.lines().zip(replayed.text.lines()).enumerate() {
            assert_eq!(expected, found, "line {}", number + 1);
        }
        assert_eq!(record.decided, replayed.text);
        assert!(replayed.warnings.is_empty(), "{:?}", replayed.warnings);
        // And a decision that was written down can be read, and written again.
        for line in record.decided.lines() {
            let decision: Decision = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&decision).unwrap(), line);
        }
    }
    let after = &records[1];
    assert!(after.status.contains("capacityPerWorker"), "{}", after.status);
    assert_ne!(answers(&after.seen).text, after.decided, "what the status says is used");
}
