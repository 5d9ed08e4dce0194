//! Units of the decision core. Each is a number with a type of its own, so that records cannot be added to seconds.
//!
//! The inner value may be any float, including NaN, because observations come from outside. Arithmetic never panics.

use std::ops::{Add, Div, Mul, Sub};

use serde::{Deserialize, Serialize};

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub f64);

        impl $name {
            /// The value 0.
            pub const ZERO: Self = Self(0.0);

            /// Returns the larger of the two; the other one if one is NaN.
            #[must_use]
            pub fn max(self, other: Self) -> Self {
                Self(self.0.max(other.0))
            }

            /// Returns the smaller of the two; the other one if one is NaN.
            #[must_use]
            pub fn min(self, other: Self) -> Self {
                Self(self.0.min(other.0))
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }

        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }

        impl Mul<f64> for $name {
            type Output = Self;
            fn mul(self, factor: f64) -> Self {
                Self(self.0 * factor)
            }
        }

        impl Div for $name {
            type Output = f64;
            fn div(self, other: Self) -> f64 {
                self.0 / other.0
            }
        }
    };
}

unit!(
    /// A length of time or a point in Unix time, in seconds.
    Seconds
);
unit!(
    /// A number of records.
    Records
);
unit!(
    /// A rate, in records per second.
    RecordsPerSecond
);

impl Div<RecordsPerSecond> for Records {
    type Output = Seconds;
    fn div(self, rate: RecordsPerSecond) -> Seconds {
        Seconds(self.0 / rate.0)
    }
}

impl Div<Seconds> for Records {
    type Output = RecordsPerSecond;
    fn div(self, time: Seconds) -> RecordsPerSecond {
        RecordsPerSecond(self.0 / time.0)
    }
}

impl Mul<Seconds> for RecordsPerSecond {
    type Output = Records;
    fn mul(self, time: Seconds) -> Records {
        Records(self.0 * time.0)
    }
}
