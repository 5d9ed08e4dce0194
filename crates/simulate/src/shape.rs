//! Loads in one line: `ramp(0,5k,10m) | sine(5k,2k,10m,1h) + spike(0,20k,30m,1m,1h) | constant(1k,5m)`.
//!
//! Shapes joined by `|` or `then` follow one another; shapes joined by `+`, which binds tighter, happen at the same
//! time, and each is 0 after its own end. Rates are records per second (`200`, `5k`, `1.5M`), times are in Go's
//! notation.

use std::f64::consts::TAU;
use std::fmt;

use super::trace::Points;

mod parse;

pub use parse::rate;

/// Length of a jump, seconds: between two points the load is a straight line.
const JUMP: f64 = 0.001;
/// Number of points on a wave, which keeps the straight lines within 0.3 % of the amplitude.
const WAVE: f64 = 48.0;
/// Most corners of a load; more would only fill the memory.
const MOST_POINTS: f64 = 1e6;

/// The shapes in their notation.
pub const SHAPES: [&str; 6] = [
    "constant(RATE,FOR)",
    "step(FROM,TO,AT,FOR)",
    "ramp(FROM,TO,FOR)",
    "sine(MEAN,AMPLITUDE,PERIOD,FOR)",
    "spike(BASE,PEAK,AT,LENGTH,FOR)",
    "onoff(LOW,HIGH,OFF,ON,FOR)",
];

/// The kind of a shape. Rates are records per second, times are seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Constant {
        rate: f64,
    },
    Step {
        from: f64,
        to: f64,
        at: f64,
    },
    Ramp {
        from: f64,
        to: f64,
    },
    /// Begins at the mean and rises.
    Sine {
        mean: f64,
        amplitude: f64,
        period: f64,
    },
    Spike {
        base: f64,
        peak: f64,
        at: f64,
        length: f64,
    },
    /// Begins off.
    OnOff {
        low: f64,
        high: f64,
        off: f64,
        on: f64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Shape {
    kind: Kind,
    /// Length, seconds; more than 0.
    seconds: f64,
}

/// A load: shapes one after the other, some at the same time.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Parts one after the other; each is the sum of its shapes.
    parts: Vec<Vec<Shape>>,
}

/// An error in a load, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeError {
    /// The text that was parsed.
    pub text: String,
    /// Index of the wrong character, from 0.
    pub column: usize,
    /// What was expected there.
    pub message: String,
}

impl std::error::Error for ShapeError {}

impl fmt::Display for ShapeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, column, message } = self;
        writeln!(formatter, "{message}\n  {text}\n  {:column$}^", "")?;
        write!(
            formatter,
            "shapes: {}\njoined by | or then (one after the other) or + (at the same time); rates such as 200, 5k or 1.5M, times such as 30s, 10m or 1h30m",
            SHAPES.join(" ")
        )
    }
}

impl fmt::Display for Load {
    /// Writes the load in the notation in which it can be parsed.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts.iter().enumerate() {
            formatter.write_str(if index == 0 { "" } else { " | " })?;
            for (index, shape) in part.iter().enumerate() {
                write!(formatter, "{}{shape}", if index == 0 { "" } else { " + " })?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = Time;
        let end = time(self.seconds);
        match self.kind {
            Kind::Constant { rate } => write!(formatter, "constant({rate},{end})"),
            Kind::Step { from, to, at } => write!(formatter, "step({from},{to},{},{end})", time(at)),
            Kind::Ramp { from, to } => write!(formatter, "ramp({from},{to},{end})"),
            Kind::Sine { mean, amplitude, period } => {
                write!(formatter, "sine({mean},{amplitude},{},{end})", time(period))
            }
            Kind::Spike { base, peak, at, length } => {
                write!(formatter, "spike({base},{peak},{},{},{end})", time(at), time(length))
            }
            Kind::OnOff { low, high, off, on } => {
                write!(formatter, "onoff({low},{high},{},{},{end})", time(off), time(on))
            }
        }
    }
}

/// A time in Go's notation, in the largest unit that leaves a whole number.
struct Time(f64);

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, seconds) in [("h", 3600.0), ("m", 60.0)] {
            let count = self.0 / seconds;
            if count.fract() == 0.0 {
                return write!(formatter, "{count}{unit}");
            }
        }
        write!(formatter, "{}s", self.0)
    }
}

impl std::str::FromStr for Load {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Self, ShapeError> {
        parse::parse(text)
    }
}

impl Load {
    /// Returns the length in seconds.
    pub fn seconds(&self) -> f64 {
        self.parts.iter().map(|part| longest(part)).sum()
    }

    /// Returns the rate at a time, records per second; at a jump the rate after it, and 0 outside the load.
    pub fn rate(&self, seconds: f64) -> f64 {
        let mut since = seconds;
        for part in &self.parts {
            let length = longest(part);
            if since < length {
                return sum(part, since);
            }
            since -= length;
        }
        0.0
    }

    /// Returns the corners, and enough points on curves: straight lines between them make the load.
    pub fn points(&self) -> Points {
        let mut points = Points::new();
        let mut start = 0.0;
        for part in &self.parts {
            let length = longest(part);
            let mut times = vec![length - JUMP];
            for (at, jumps) in part.iter().flat_map(Shape::corners) {
                times.push(at);
                times.extend(jumps.then_some(at - JUMP));
            }
            times.retain(|at| (0.0..length - JUMP / 2.0).contains(at));
            times.sort_by(f64::total_cmp);
            times.dedup_by(|later, earlier| *later - *earlier < JUMP / 2.0);
            points.extend(times.into_iter().map(|at| (start + at, sum(part, at))));
            start += length;
        }
        // After the last part there is nothing to jump to.
        if let (Some(end), Some(part)) = (points.last_mut(), self.parts.last()) {
            *end = (start, sum(part, longest(part) * (1.0 - 1e-12)));
        }
        points
    }
}

fn longest(part: &[Shape]) -> f64 {
    part.iter().map(|shape| shape.seconds).fold(0.0, f64::max)
}

fn sum(part: &[Shape], at: f64) -> f64 {
    part.iter().map(|shape| shape.rate(at)).sum()
}

impl Shape {
    fn rate(&self, at: f64) -> f64 {
        if !(0.0..self.seconds).contains(&at) {
            return 0.0;
        }
        match self.kind {
            Kind::Constant { rate } => rate,
            Kind::Step { from, to, at: when } => {
                if at < when {
                    from
                } else {
                    to
                }
            }
            Kind::Ramp { from, to } => from + (to - from) * at / self.seconds,
            Kind::Sine { mean, amplitude, period } => (mean + amplitude * (at / period * TAU).sin()).max(0.0),
            Kind::Spike { base, peak, at: when, length } => {
                if (when..when + length).contains(&at) {
                    peak
                } else {
                    base
                }
            }
            Kind::OnOff { low, high, off, on } => {
                // A multiple of the period may be computed slightly too low, and would then be in the on phase.
                if (at * (1.0 + 1e-14)).rem_euclid(off + on) < off { low } else { high }
            }
        }
    }

    /// Returns the times at which the shape changes, including beginning and end, and whether it jumps there.
    fn corners(&self) -> Vec<(f64, bool)> {
        let mut corners = vec![(0.0, true), (self.seconds, true)];
        let mut every = |step: f64, offset: f64, jumps: bool| {
            let mut count = 0.0;
            while count * step + offset < self.seconds {
                corners.push((count * step + offset, jumps));
                count += 1.0;
            }
        };
        match self.kind {
            Kind::Constant { .. } | Kind::Ramp { .. } => {}
            Kind::Step { at, .. } => corners.push((at, true)),
            Kind::Spike { at, length, .. } => corners.extend([(at, true), (at + length, true)]),
            Kind::Sine { period, .. } => every(period / WAVE, 0.0, false),
            Kind::OnOff { off, on, .. } => {
                every(off + on, 0.0, true);
                every(off + on, off, true);
            }
        }
        corners
    }

    /// Returns about how many corners the shape has.
    fn size(&self) -> f64 {
        match self.kind {
            Kind::Sine { period, .. } => self.seconds / period * WAVE,
            Kind::OnOff { off, on, .. } => self.seconds / (off + on) * 2.0,
            _ => 4.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Load {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6 * b.abs().max(1.0)
    }

    #[test]
    fn each_shape_has_its_rates() {
        for (text, seconds, rates) in [
            ("constant(200,10m)", 600.0, vec![(0.0, 200.0), (599.0, 200.0), (600.0, 0.0), (-1.0, 0.0)]),
            ("step(1k,2k,5m,10m)", 600.0, vec![(299.0, 1000.0), (300.0, 2000.0), (599.0, 2000.0)]),
            ("ramp(0,6k,10m)", 600.0, vec![(0.0, 0.0), (300.0, 3000.0), (599.0, 5990.0)]),
            ("sine(5k,2k,4m,1h)", 3600.0, vec![(0.0, 5000.0), (60.0, 7000.0), (180.0, 3000.0), (240.0, 5000.0)]),
            ("spike(100,1M,1m,30s,5m)", 300.0, vec![(59.0, 100.0), (60.0, 1e6), (89.9, 1e6), (90.0, 100.0)]),
            (
                "onoff(0,1.5k,10s,5s,1m)",
                60.0,
                vec![(9.0, 0.0), (10.0, 1500.0), (14.9, 1500.0), (15.0, 0.0), (55.0, 1500.0)],
            ),
            (
                "constant(1,1m) | constant(2,1m) then constant(3,1m)",
                180.0,
                vec![(59.0, 1.0), (60.0, 2.0), (179.0, 3.0)],
            ),
            ("constant(1,1m)+constant(2,2m)|constant(4,1m)", 180.0, vec![(0.0, 3.0), (60.0, 2.0), (120.0, 4.0)]),
        ] {
            let load = load(text);
            assert!(close(load.seconds(), seconds), "{text}");
            for (at, rate) in rates {
                assert!(close(load.rate(at), rate), "{text} at {at}: {}", load.rate(at));
            }
        }
    }

    #[test]
    fn lines_between_points_are_the_load() {
        for (text, tolerance) in [
            ("constant(200,10m)", 1e-6),
            ("step(1k,2k,5m,10m) | ramp(0,6k,10m)", 1e-6),
            ("onoff(0,1.5k,10s,5s,1m) + spike(0,1k,12s,1s,40s)", 1e-6),
            ("sine(5k,2k,4m,1h)", 2000.0 * 0.003),
        ] {
            let load = load(text);
            let points = load.points();
            assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0), "{text}: {points:?}");
            assert!(close(points[0].0, 0.0) && close(points.last().unwrap().0, load.seconds()), "{text}: {points:?}");
            for step in 0..1000 {
                let at = load.seconds() * (f64::from(step) + 0.37) / 1000.0;
                let after = points.partition_point(|(time, _)| *time <= at);
                let ((t0, r0), (t1, r1)) = (points[after - 1], points[after]);
                let between = r0 + (r1 - r0) * (at - t0) / (t1 - t0);
                assert!((between - load.rate(at)).abs() <= tolerance * 1.001, "{text} at {at}: {between}");
            }
        }
    }
}
