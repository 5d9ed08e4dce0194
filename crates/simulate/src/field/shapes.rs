//! Shapes of a load over time: recorded, regular, or random. Each is a rate for each second, with mean 1.

use std::f64::consts::TAU;

use crate::load::Load;
use crate::random::Random;
use crate::trace::{Gaps, parse};

/// Recorded loads, and the fewest and most of their hours whose dynamics an hour of a run may show.
const TRACES: [(&str, &str, f64, f64); 6] = [
    ("ads", include_str!("../../../../examples/traces/diurnal-ads-18h.csv"), 2.0, 12.0),
    ("elb", include_str!("../../../../examples/traces/real_bursty_aws_elb_14d.csv"), 6.0, 24.0),
    ("wc98-0512", include_str!("../../../../examples/traces/real_flash_wc98_0512_24h.csv"), 2.0, 12.0),
    ("wc98-semifinal", include_str!("../../../../examples/traces/real_flash_wc98_semifinal_24h.csv"), 2.0, 12.0),
    ("taxi", include_str!("../../../../examples/traces/real_weekly_nyc_taxi_28d.csv"), 12.0, 36.0),
    ("llm-code", include_str!("../../../../examples/traces/real_onoff_azure_llm_code_57m.csv"), 0.3, 0.9),
];

/// Kinds of shapes and how common each is.
const KINDS: [(Kind, f64); 12] = [
    (Kind::Trace, 30.0),
    (Kind::Constant, 8.0),
    (Kind::Steps, 10.0),
    (Kind::Ramp, 6.0),
    (Kind::Sine, 10.0),
    (Kind::Square, 8.0),
    (Kind::OnOff, 5.0),
    (Kind::Bursts, 8.0),
    (Kind::Growth, 5.0),
    (Kind::Idle, 4.0),
    (Kind::Spikes, 4.0),
    (Kind::Calm, 2.0),
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    Trace,
    Constant,
    Steps,
    Ramp,
    Sine,
    Square,
    OnOff,
    Bursts,
    Growth,
    Idle,
    Spikes,
    Calm,
}

/// Draws a shape of a number of seconds, and its name. No part has a constant rate to the last record: on a scale of
/// minutes it varies by up to a tenth.
pub(crate) fn draw(random: &mut Random, seconds: usize) -> (String, Vec<f64>) {
    let kind = choose(random, &KINDS);
    let (name, mut rates) = match kind {
        Kind::Trace => trace(random, seconds),
        _ => made(kind, random, seconds),
    };
    let (mut wander, scatter) = (0.0, between(random, 0.0, 0.1));
    for rate in &mut rates {
        wander = wander * 0.99 + scatter * 0.14 * random.bell();
        *rate *= (1.0_f64 + wander).max(0.2);
    }
    let mean = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
    if mean > 0.0 {
        for rate in &mut rates {
            *rate /= mean;
        }
    }
    (name, rates)
}

fn trace(random: &mut Random, seconds: usize) -> (String, Vec<f64>) {
    let (name, text, fewest, most) = TRACES[random.below(TRACES.len())];
    let points = parse(name, text, Gaps::Allowed).unwrap_or_default();
    let last = points.last().map_or(0.0, |point| point.0);
    let factor = log_between(random, fewest, most).min(last / seconds as f64);
    let begin = random.uniform() * (last - factor * seconds as f64).max(0.0);
    let scaled: Vec<(f64, f64)> = points.iter().map(|(time, rate)| ((time - begin) / factor, *rate)).collect();
    let first = scaled.partition_point(|point| point.0 <= 0.0).saturating_sub(1);
    let offset = scaled.get(first).map_or(0.0, |point| -point.0) as usize;
    let load = Load::from_points(scaled.get(first..).unwrap_or_default());
    let rates = load.rates().iter().skip(offset).map(|rate| f64::from(*rate)).chain(std::iter::repeat(0.0));
    (format!("{name} x{factor:.1}"), rates.take(seconds).collect())
}

fn made(kind: Kind, random: &mut Random, seconds: usize) -> (String, Vec<f64>) {
    let length = seconds as f64;
    let over = |rate: &mut dyn FnMut(f64) -> f64| (0..seconds).map(|second| rate(second as f64)).collect();
    match kind {
        Kind::Steps => {
            let every = log_between(random, 300.0, 2400.0);
            let mut level = 1.0;
            let mut next = 0.0;
            let rates = over(&mut |time| {
                if time >= next {
                    next = time + every * between(random, 0.5, 1.5);
                    level = log_between(random, 0.3, 3.0);
                }
                level
            });
            (format!("steps {}", minutes(every)), rates)
        }
        Kind::Ramp => {
            let (factor, takes) = (log_between(random, 2.0, 12.0), log_between(random, 120.0, 3600.0));
            let begins = between(random, 0.2, 0.6) * length;
            let back = random.uniform() < 0.5;
            let rates = over(&mut |time| {
                let up = ((time - begins) / takes).clamp(0.0, 1.0);
                let down = ((time - begins - 1.5 * takes) / takes).clamp(0.0, 1.0);
                1.0 + (factor - 1.0) * if back { up - down } else { up }
            });
            (format!("ramp x{factor:.1} in {}", minutes(takes)), rates)
        }
        Kind::Sine => {
            let (amplitude, period) = (between(random, 0.2, 0.95), log_between(random, 300.0, 7200.0));
            let phase = random.uniform();
            let rates = over(&mut |time| 1.0 + amplitude * (TAU * (time / period + phase)).sin());
            (format!("sine {amplitude:.2} of {}", minutes(period)), rates)
        }
        Kind::Square | Kind::OnOff => {
            let low = if matches!(kind, Kind::OnOff) { 0.0 } else { log_between(random, 0.1, 0.6) };
            let (off, on) = (log_between(random, 60.0, 1800.0), log_between(random, 60.0, 1800.0));
            let rates = over(&mut |time| if time % (off + on) < off { low } else { 1.0 });
            (format!("square {low:.2}/1 of {}+{}", minutes(off), minutes(on)), rates)
        }
        Kind::Bursts => {
            let (high, calm, burst) =
                (log_between(random, 2.0, 8.0), log_between(random, 60.0, 900.0), log_between(random, 10.0, 240.0));
            let (mut bursting, mut until) = (false, 0.0);
            let rates = over(&mut |time| {
                while time >= until {
                    bursting = !bursting;
                    until += if bursting { burst } else { calm } * -(1.0 - random.uniform()).ln();
                }
                if bursting { high } else { 1.0 }
            });
            (format!("bursts x{high:.1} of {} each {}", minutes(burst), minutes(calm)), rates)
        }
        Kind::Growth => {
            let (factor, amplitude) = (log_between(random, 1.5, 6.0), between(random, 0.0, 0.4));
            let period = log_between(random, 600.0, 3600.0);
            let rates = over(&mut |time| factor.powf(time / length) * (1.0 + amplitude * (TAU * time / period).sin()));
            (format!("growth x{factor:.1}"), rates)
        }
        Kind::Idle => {
            let (off, on) = (log_between(random, 300.0, 2400.0), log_between(random, 120.0, 1800.0));
            let rates = over(&mut |time| {
                let into = time % (on + off);
                if into < on { (TAU / 2.0 * into / on).sin() } else { 0.0 }
            });
            (format!("idle {} after {}", minutes(off), minutes(on)), rates)
        }
        Kind::Spikes => {
            let (high, every) = (log_between(random, 2.0, 6.0), log_between(random, 600.0, 3600.0));
            let lasts = log_between(random, 30.0, 300.0).min(every / 3.0);
            let begins = random.uniform() * every;
            let rates = over(&mut |time| if (time + begins) % every < lasts { high } else { 1.0 });
            (format!("spikes x{high:.1} of {} each {}", minutes(lasts), minutes(every)), rates)
        }
        Kind::Calm => {
            let ends = between(random, 0.3, 0.7) * length;
            (format!("nothing from {}", minutes(ends)), over(&mut |time| f64::from(time < ends)))
        }
        Kind::Constant | Kind::Trace => ("constant".to_owned(), vec![1.0; seconds]),
    }
}

fn minutes(seconds: f64) -> String {
    if seconds < 100.0 { format!("{seconds:.0}s") } else { format!("{:.0}m", seconds / 60.0) }
}

/// Draws one of several values according to their weights.
pub(crate) fn choose<T: Copy>(random: &mut Random, among: &[(T, f64)]) -> T {
    let total: f64 = among.iter().map(|(_, weight)| weight).sum();
    let mut left = random.uniform() * total;
    for (value, weight) in among {
        left -= weight;
        if left < 0.0 {
            return *value;
        }
    }
    among[among.len() - 1].0
}

/// Draws a uniform number.
pub(crate) fn between(random: &mut Random, low: f64, high: f64) -> f64 {
    low + (high - low) * random.uniform()
}

/// Draws a number that is uniform in the logarithm.
pub(crate) fn log_between(random: &mut Random, low: f64, high: f64) -> f64 {
    between(random, low.ln(), high.ln()).exp()
}
