//! The definition of the benchmark as data.

use sluice_simulate::peers::{self, Limits, Parameters};
use sluice_simulate::{Faults, Handover, Load, Scenario};

/// Share below which two costs count as the same.
pub const TIE: f64 = 0.02;

/// Peers that are tuned, by [`peers::FAMILIES`].
pub const FAMILIES: [&str; 7] = ["hpa", "keda", "numaflow", "flink", "ds2", "beam", "knative"];

/// Peers that are tuned where only a first look at a group is wanted: the usual ones for consumer groups.
const USUAL: [&str; 2] = ["hpa", "keda"];

/// Each peer as it ships or is documented, and common fixed settings. None uses the future.
const DEFAULTS: [&str; 11] = [
    "hpa-70",
    "hpa-50",
    "keda-default",
    "keda-1s",
    "keda-5s",
    "numaflow",
    "flink",
    "flink-docs",
    "ds2",
    "beam",
    "knative",
];

/// 99.9th percentile of each trace, records per second: with 1000 records per second a worker, 16 workers.
const HIGH: f64 = 16_000.0;

/// Longest trace, seconds: a longer one is cut to a day.
const LONGEST: usize = 86_400;

/// Where a trace comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Recorded somewhere.
    Real,
    /// Generated.
    Synthetic,
}

/// A named load.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Name for tables.
    pub name: String,
    /// Where it comes from.
    pub kind: Kind,
    /// The load.
    pub load: Load,
}

impl Trace {
    /// Returns a trace that is cut to a day and scaled so that the 99.9th percentile needs 16 workers.
    pub fn new(name: &str, kind: Kind, load: Load) -> Self {
        Self { name: name.to_owned(), kind, load: load.cut(LONGEST).scale_to_p999(HIGH) }
    }

    /// Half an hour, half an hour of twice the load, and half an hour as before.
    fn doubling() -> Self {
        let rates = [6000.0, 12_000.0, 6000.0].into_iter().flat_map(|rate| [rate; 1800]);
        Self { name: DOUBLING.to_owned(), kind: Kind::Synthetic, load: Load::new(rates.collect()) }
    }
}

/// Name of the trace that is added for a goal of its own.
pub(crate) const DOUBLING: &str = "twice the load";

/// A way to run the job. Except for seed and latency, all its runs have one scenario.
#[derive(Debug, Clone)]
pub struct Group {
    /// Name in one word.
    pub id: &'static str,
    /// Title for headings.
    pub title: &'static str,
    /// Seed and latency are set for each run.
    pub scenario: Scenario,
    /// Objectives, seconds.
    pub latencies: Vec<u32>,
    /// Families of peers whose main parameter is searched.
    pub tuned: Vec<&'static str>,
    /// Peers that run with their default settings.
    pub defaults: Vec<&'static str>,
    /// Indices of its traces in [`Plan::traces`].
    pub traces: Vec<usize>,
}

impl Group {
    /// Returns the scenario of one run.
    pub fn scenario_for(&self, seed: u64, latency: u32) -> Scenario {
        Scenario { seed, latency: f64::from(latency), ..self.scenario.clone() }
    }

    /// Returns whether it is one of the two groups whose cells the goals count.
    pub fn counts(&self) -> bool {
        self.id == "handoff" || self.id == "restart"
    }

    /// Returns the names of all settings of a family.
    pub(crate) fn settings(&self, family: &str) -> Vec<String> {
        let rules = peers::sweep(family, &self.parameters(0.0)).unwrap_or_default();
        rules.iter().map(|rule| rule.name()).collect()
    }

    pub(crate) fn parameters(&self, mean_rate: f64) -> Parameters {
        let Scenario { min_workers, max_workers, partitions, capacity, .. } = self.scenario;
        let limits = Limits { min: min_workers, max: max_workers, partitions: partitions as u32 };
        Parameters { limits, capacity, mean_rate }
    }
}

/// Everything that is run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// All traces.
    pub traces: Vec<Trace>,
    /// All groups.
    pub groups: Vec<Group>,
    /// All seeds; there is at least one.
    pub seeds: Vec<u64>,
    /// Whether the scenarios of faults are run.
    pub faults: bool,
}

impl Plan {
    /// Returns all groups over these traces.
    pub fn full(mut traces: Vec<Trace>, seeds: u64) -> Self {
        let all: Vec<usize> = (0..traces.len()).collect();
        let with_doubling: Vec<usize> = (0..=traces.len()).collect();
        traces.push(Trace::doubling());
        let plain = Scenario::default();
        let kills = |crash_handover| Scenario {
            crash_handover,
            faults: Faults { kill_every: Some(2700.0), ..Faults::default() },
            ..plain.clone()
        };
        let restart = |seconds| Scenario { handover: Handover::Restart(seconds), ..plain.clone() };
        let main = |id, title, scenario| Group {
            id,
            title,
            scenario,
            latencies: vec![2, 10, 60],
            tuned: FAMILIES.to_vec(),
            defaults: DEFAULTS.to_vec(),
            traces: all.clone(),
        };
        let extra = |id, title, scenario| Group {
            latencies: vec![10],
            tuned: USUAL.to_vec(),
            defaults: vec!["hpa-70", "keda-default"],
            ..main(id, title, scenario)
        };
        let groups = vec![
            main("handoff", "Only the partitions that move stand still, 5 s", plain.clone()),
            main("restart", "The whole job stands still at each change, 30 s", restart(30.0)),
            extra("even", "Even partitions", Scenario { weight_sigma: 0.0, ..plain.clone() }),
            Group {
                traces: with_doubling,
                ..extra(
                    "fast",
                    "Warm image: start-up 3 s, handover 0.5 s",
                    Scenario { start_up: 3.0, handover: Handover::Handoff(0.5), ..plain.clone() },
                )
            },
            extra("slow", "Start-up 180 s", Scenario { start_up: 180.0, ..plain.clone() }),
            extra("crash-7", "A worker dies every 45 min, noticed after 7 s", kills(7.0)),
            extra("crash-41", "A worker dies every 45 min, noticed after 41 s", kills(41.0)),
            extra("restart-10", "The whole job stands still at each change, 10 s", restart(10.0)),
            extra("restart-60", "The whole job stands still at each change, 60 s", restart(60.0)),
        ];
        Self { traces, groups, seeds: (1..=seeds.max(1)).collect(), faults: true }
    }

    /// Sluice at 10 s and handover by partition with one seed, beside two peers; nothing is tuned. About a minute.
    pub fn quick(traces: Vec<Trace>) -> Self {
        let mut plan = Self::full(traces, 1);
        plan.groups.truncate(1);
        for group in &mut plan.groups {
            group.latencies = vec![10];
            group.tuned.clear();
            group.defaults = vec!["hpa-70", "keda-1s"];
        }
        plan.faults = false;
        plan
    }

    /// Keeps only the cells whose group and trace, as in `handoff/real_flash_wc98`, contain this text.
    pub fn filter(&mut self, text: &str) {
        let traces = &self.traces;
        for group in &mut self.groups {
            let id = group.id;
            group.traces.retain(|trace| format!("{id}/{}", traces[*trace].name).contains(text));
        }
        self.groups.retain(|group| !group.traces.is_empty());
    }

    /// Returns the seed for which settings are searched and bounds computed.
    pub(crate) fn first_seed(&self) -> u64 {
        self.seeds.first().copied().unwrap_or(1)
    }

    /// Returns the first group that is the same for a constant replica count.
    pub(crate) fn as_if_fixed(&self, group: usize) -> usize {
        let view = |group: &Group| Scenario {
            start_up: 0.0,
            handover: Handover::Handoff(0.0),
            crash_handover: if group.scenario.faults == Faults::default() {
                0.0
            } else {
                group.scenario.crash_handover
            },
            ..group.scenario.clone()
        };
        self.first_alike(group, view)
    }

    /// Returns the first group that is the same for the lower bound.
    pub(crate) fn as_bounded(&self, group: usize, weighted: bool) -> usize {
        let view = |group: &Group| Scenario {
            handover: Handover::Handoff(0.0),
            crash_handover: 0.0,
            faults: Faults::default(),
            weight_sigma: if weighted { group.scenario.weight_sigma } else { 0.0 },
            ..group.scenario.clone()
        };
        self.first_alike(group, view)
    }

    fn first_alike(&self, group: usize, view: impl Fn(&Group) -> Scenario) -> usize {
        let wanted = self.groups.get(group).map(&view);
        self.groups.iter().position(|other| Some(view(other)) == wanted).unwrap_or(group)
    }
}
