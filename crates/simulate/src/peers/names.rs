//! The peers by name: `hpa-70`, `keda-3s`, `flink-docs`, …

use super::flink_model::Options;
use super::{Beam, Ds2, Flink, Hpa, Keda, Knative, Numaflow, Parameters, beam, ds2, knative, numaflow, static_mean};
use crate::rule::Rule;

/// Families of peers, and their notation: `P` is a percentage from 1 to 100, `S` seconds; parts in brackets are
/// optional.
pub const FAMILIES: [(&str, &str); 8] = [
    ("hpa", "hpa[-P]"),
    ("keda", "keda-Ss, keda-default"),
    ("numaflow", "numaflow[-Ss]"),
    ("flink", "flink[-docs|-1min][-P]"),
    ("ds2", "ds2[-band][-P]"),
    ("beam", "beam[-Ss[-P]]"),
    ("knative", "knative[-P]"),
    ("static-mean", "static-mean"),
];

/// The peers shown by default: each as it ships, and with its usual other settings.
const USUAL: [&str; 12] = [
    "hpa-70",
    "hpa-50",
    "keda-1s",
    "keda-5s",
    "keda-default",
    "numaflow",
    "flink",
    "flink-docs",
    "ds2",
    "beam",
    "knative",
    "static-mean",
];

/// A name that no peer has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no peer is called {name:?}; there are {}", forms())]
pub struct UnknownPeer {
    /// The unknown name.
    pub name: String,
}

fn forms() -> String {
    FAMILIES.map(|family| family.1).join(", ")
}

/// Returns each peer with its usual settings.
pub fn all(parameters: &Parameters) -> Vec<Box<dyn Rule>> {
    build(&USUAL.map(str::to_owned), parameters)
}

/// Returns a family of [`FAMILIES`] over its main parameter, including the usual setting. Empty for `static-mean`,
/// which has no parameter.
pub fn sweep(family: &str, parameters: &Parameters) -> Result<Vec<Box<dyn Rule>>, UnknownPeer> {
    let percents = |prefix: &str, from: u32| (from..=9).map(|tenth| format!("{prefix}-{tenth}0")).collect::<Vec<_>>();
    let seconds = |prefix: &str, all: &[f64]| all.iter().map(|s| format!("{prefix}-{s}s")).collect::<Vec<_>>();
    let names = match family {
        "hpa" => percents("hpa", 3),
        "keda" => seconds("keda", &[0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0]),
        "numaflow" => seconds("numaflow", &[1.0, 2.0, 5.0, 10.0, 20.0]),
        "flink" => [percents("flink", 4), percents("flink-1min", 4)].concat(),
        "ds2" => percents("ds2", 5),
        "beam" => seconds("beam", &[10.0, 30.0, 60.0, 120.0])
            .iter()
            .flat_map(|name| ["70", "80", "90"].map(|cpu| format!("{name}-{cpu}")))
            .collect(),
        "knative" => percents("knative", 4),
        "static-mean" => Vec::new(),
        _ => return Err(UnknownPeer { name: family.to_owned() }),
    };
    Ok(build(&names, parameters))
}

fn build(names: &[String], parameters: &Parameters) -> Vec<Box<dyn Rule>> {
    names.iter().filter_map(|name| named(name, parameters).ok()).collect()
}

/// Returns the peer with that name.
pub fn named(name: &str, parameters: &Parameters) -> Result<Box<dyn Rule>, UnknownPeer> {
    parse(name, parameters).ok_or_else(|| UnknownPeer { name: name.to_owned() })
}

fn parse(name: &str, parameters: &Parameters) -> Option<Box<dyn Rule>> {
    let Parameters { limits, capacity, mean_rate } = *parameters;
    if name == "static-mean" {
        return Some(Box::new(static_mean(mean_rate, capacity, limits)));
    }
    let (family, rest) = name.split_once('-').map_or((name, None), |(family, rest)| (family, Some(rest)));
    Some(match family {
        "hpa" => Box::new(Hpa::new(fraction_or(rest, 0.7)?, limits)),
        "keda" if rest == Some("default") => Box::new(Keda::shipped(limits)),
        "keda" => Box::new(Keda::new(seconds(rest?)?, capacity, limits)),
        "numaflow" => Box::new(Numaflow::new(rest.map_or(Some(numaflow::TARGET), seconds)?, limits)),
        "flink" => Box::new(flink(rest, parameters)?),
        "ds2" => match rest.map(|rest| variant(rest, "band")) {
            Some((true, target)) => Box::new(Ds2::with_band(fraction_or(target, ds2::TARGET)?, limits)),
            _ => Box::new(Ds2::new(fraction_or(rest, ds2::TARGET)?, limits)),
        },
        "beam" => {
            let (backlog, cpu) = rest.map_or((None, None), |rest| match rest.split_once('-') {
                Some((backlog, cpu)) => (Some(backlog), Some(cpu)),
                None => (Some(rest), None),
            });
            let backlog = backlog.map_or(Some(beam::BACKLOG), seconds)?;
            Box::new(Beam::new(backlog, fraction_or(cpu, beam::CPU)?, limits))
        }
        "knative" => Box::new(Knative::new(fraction_or(rest, knative::TARGET)?, capacity, limits)),
        _ => return None,
    })
}

fn flink(rest: Option<&str>, parameters: &Parameters) -> Option<Flink> {
    let (name, options, target) = match rest {
        Some(rest) if variant(rest, "docs").0 => ("flink-docs", Options::DOCUMENTED, variant(rest, "docs").1),
        Some(rest) if variant(rest, "1min").0 => ("flink-1min", Options::MINUTE, variant(rest, "1min").1),
        _ => ("flink", Options::SHIPPED, rest),
    };
    let usual = options.target;
    let target = fraction_or(target, usual)?;
    Some(Flink::new(name, options.with_target(target), usual, parameters.limits))
}

/// Returns whether `rest` is the variant, and what follows it after a dash.
fn variant<'a>(rest: &'a str, variant: &str) -> (bool, Option<&'a str>) {
    match rest.strip_prefix(variant) {
        Some("") => (true, None),
        Some(more) => more.strip_prefix('-').map_or((false, None), |more| (true, Some(more))),
        None => (false, None),
    }
}

/// Parses a percentage from 1 to 100 as a fraction: `55` is 0.55.
fn fraction_or(text: Option<&str>, usual: f64) -> Option<f64> {
    let Some(text) = text else { return Some(usual) };
    let percent: u32 = text.parse().ok()?;
    (1..=100).contains(&percent).then(|| f64::from(percent) / 100.0)
}

/// Parses seconds above 0 and up to a day: `0.25s` is 0.25.
fn seconds(text: &str) -> Option<f64> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    (seconds > 0.0 && seconds <= 86_400.0).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::super::scene::Scene;
    use super::*;

    fn parameters() -> Parameters {
        let limits = Limits { min: 1, max: 40, partitions: 120 };
        Parameters { limits, capacity: 1000.0, mean_rate: 7500.0 }
    }

    fn names(rules: &[Box<dyn Rule>]) -> Vec<String> {
        rules.iter().map(|r| r.name()).collect()
    }

    #[test]
    fn name_is_parsed_and_given_back() {
        for name in USUAL.into_iter().chain([
            "hpa-55",
            "keda-3s",
            "keda-0.25s",
            "numaflow-5s",
            "flink-55",
            "flink-1min",
            "flink-1min-55",
            "flink-docs-70",
            "ds2-80",
            "ds2-band",
            "ds2-band-80",
            "beam-30s",
            "beam-30s-80",
            "knative-85",
        ]) {
            assert_eq!(named(name, &parameters()).map(|r| r.name()), Ok(name.to_owned()));
        }
        assert_eq!(named("hpa", &parameters()).map(|r| r.name()), Ok("hpa-70".to_owned()));
    }

    #[test]
    fn unknown_name_is_refused_with_the_known_ones() {
        for name in [
            "",
            "hpa-",
            "hpa-0",
            "hpa-101",
            "hpa-70-1",
            "keda",
            "keda-3",
            "keda--1s",
            "keda-nans",
            "keda-infs",
            "numaflow-0s",
            "flink-docs-",
            "flink-2min",
            "ds2-bandit",
            "beam-80",
            "beam-30s-",
            "static",
            "sluice",
        ] {
            let error = named(name, &parameters()).map(|r| r.name()).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with(&format!("no peer is called {name:?}; there are hpa[-P], keda-Ss")), "{text}");
        }
        assert!(sweep("sluice", &parameters()).is_err());
    }

    #[test]
    fn every_listed_peer_can_be_built() {
        assert_eq!(names(&all(&parameters())), USUAL);
        for (family, size, usual) in [
            ("hpa", 7, "hpa-70"),
            ("keda", 8, "keda-1s"),
            ("numaflow", 5, "numaflow"),
            ("flink", 12, "flink"),
            ("ds2", 5, "ds2"),
            ("beam", 12, "beam"),
            ("knative", 6, "knative"),
        ] {
            let swept = names(&sweep(family, &parameters()).unwrap());
            assert_eq!(swept.len(), size, "{swept:?}");
            assert!(swept.contains(&usual.to_owned()), "{swept:?}");
        }
        assert!(FAMILIES.iter().all(|family| sweep(family.0, &parameters()).is_ok()));
    }

    /// No peer panics or leaves its limits, whatever it is shown.
    #[test]
    fn no_peer_panics_or_leaves_its_limits() {
        let mut rules = all(&parameters());
        for family in FAMILIES {
            rules.extend(sweep(family.0, &parameters()).unwrap());
        }
        for mut rule in rules {
            let mut scene = Scene::new(5, 12);
            (scene.busy, scene.rate, scene.arriving, scene.lag) = (0.9, 900.0, 5000.0, 100_000);
            for i in 0..400_usize {
                let mut observation = scene.pass(rule.every());
                scene.lag = (scene.lag * 7919 + 13) % 4_000_000;
                scene.busy = (scene.busy * 1.7) % 1.0;
                match i % 13 {
                    3 => observation.workers.clear(),
                    4 => observation.partitions.clear(),
                    5 => observation.replicas = sluice_policy::Replicas::default(),
                    6 => observation.workers.iter_mut().for_each(|w| w.busy_seconds = Some(f64::NAN)),
                    7 => observation.partitions[0].end = Some(i64::MIN),
                    8 => observation.workers.iter_mut().for_each(|w| w.processed = Some(-1.0)),
                    9 => observation.at.0 = f64::NAN,
                    10 => observation.at.0 -= 1e6,
                    11 => observation.partitions[0].committed = Some(-1),
                    _ => {}
                }
                if let Some(wanted) = rule.decide(&observation) {
                    assert!((1..=40).contains(&wanted), "{}: {wanted}", rule.name());
                    scene.resize(usize::try_from(wanted).unwrap());
                }
            }
        }
    }
}
