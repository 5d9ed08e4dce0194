//! Evidence: how far behind a reader was at one moment, as a bracket of what is certain and what is possible.

use sluice_base::num;

/// The certain and the possible value of a quantity; `certain <= possible`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Bracket {
    pub(crate) certain: f64,
    pub(crate) possible: f64,
}

impl Bracket {
    pub(crate) fn new(certain: f64, possible: f64) -> Self {
        Self { certain, possible: possible.max(certain) }
    }

    /// Returns the larger value at both edges.
    pub(crate) fn max(self, other: Self) -> Self {
        Self { certain: self.certain.max(other.certain), possible: self.possible.max(other.possible) }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self { certain: self.certain + other.certain, possible: self.possible + other.possible }
    }
}

/// How far behind the reader was at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evidence {
    /// Time of the evidence.
    pub(crate) at: f64,
    age: [f32; 2],
    queue: [f32; 2],
}

impl Evidence {
    /// No evidence yet.
    pub(crate) const NONE: Self = Self { at: f64::NEG_INFINITY, age: [0.0, f32::MAX], queue: [0.0, f32::MAX] };

    /// `age`: age of the oldest unprocessed record, seconds. `queue`: unprocessed records.
    pub(crate) fn new(at: f64, age: Bracket, queue: Bracket) -> Self {
        let small = |bracket: Bracket| [num::f32_of(bracket.certain), num::f32_of(bracket.possible)];
        Self { at, age: small(age), queue: small(queue) }
    }

    pub(crate) fn age(&self) -> Bracket {
        Bracket { certain: f64::from(self.age[0]), possible: f64::from(self.age[1]) }
    }

    pub(crate) fn queue(&self) -> Bracket {
        Bracket { certain: f64::from(self.queue[0]), possible: f64::from(self.queue[1]) }
    }
}
