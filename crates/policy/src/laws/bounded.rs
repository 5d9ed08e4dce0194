//! Law 10. **Bounded memory.** A job with 100 partitions and 40 workers takes at most 100 KiB, and ages are known to a
//! tenth.

use proptest::prelude::*;

use super::cases;
use crate::model::offset_history::{Appended, OffsetHistory};
use crate::plant::settings;
use crate::{Memory, Observation, Partition, Replicas, Worker, decide};
use sluice_base::units::Seconds;

/// Law 10.
#[test]
fn memory_is_bounded() {
    let mut memory = Memory::default();
    for look in 0..400_u32 {
        let at = 1.764e9 + 2.0 * f64::from(look);
        let partitions = (0..100_i64).map(|p| Partition {
            id: format!("orders-of-a-team/{p}"),
            end: Some(1_000_000_000_000 + i64::from(look) * (100 + p)),
            committed: Some(1_000_000_000_000 + i64::from(look) * (100 + p) - 50),
            owner: Some(format!("orders-worker-7c9f4d5b8-{}", p % 40)),
            ..Partition::default()
        });
        let workers = (0..40).map(|w| Worker {
            id: format!("orders-worker-7c9f4d5b8-{w}"),
            started_at: Some(Seconds(1.764e9)),
            ready: Some(true),
            processed: Some(f64::from(look) * 300.0),
            busy_seconds: Some(f64::from(look) * 0.6),
            ..Worker::default()
        });
        let observation = Observation {
            at: Seconds(at),
            replicas: Replicas { desired: Some(40), existing: Some(40), ready: Some(40) },
            partitions: partitions.collect(),
            workers: workers.collect(),
            ..Observation::default()
        };
        decide(&mut memory, &observation, &settings());
    }
    let size = memory.size_bytes();
    println!("{size} bytes");
    assert!(size <= 100 * 1024, "{size}");
}

/// When the record at each offset was appended: pieces of a number of seconds at a rate in records per second.
struct Log(Vec<(f64, f64)>);

impl Log {
    fn end(&self, time: f64) -> f64 {
        let (mut end, mut left) = (0.0, time);
        for (seconds, rate) in &self.0 {
            end += rate * left.clamp(0.0, *seconds);
            left -= seconds;
        }
        end
    }

    fn seconds(&self) -> f64 {
        self.0.iter().map(|piece| piece.0).sum()
    }
}

proptest! {
    #![proptest_config(cases())]

    /// Law 10. Half a gap is a tenth of the age, and interpolation is off by half a gap if the rate changes ninefold in
    /// it.
    #[test]
    fn age_of_a_record_is_known_to_ten_percent(
        usual in 20.0..20_000.0_f64,
        pieces in proptest::collection::vec((1.0..400.0_f64, 1.0..9.0_f64), 1..20),
        every in 0.5..5.0_f64,
        jitter in 0.0..0.3_f64,
        depths in proptest::collection::vec(0.0..1.0_f64, 20),
    ) {
        let log = Log(pieces.iter().map(|(seconds, times)| (*seconds, usual * times)).collect());
        let mut ring = OffsetHistory::default();
        let (mut now, mut look) = (0.0, 0_u32);
        while now < log.seconds() {
            ring.push(1.764e9 + now, log.end(now).floor() as i64);
            look += 1;
            now += every * (1.0 + jitter * (f64::from(look) * 2.4).sin());
        }
        let (newest, end) = ring.latest().unwrap();
        let oldest = ring.since().unwrap() - 1.764e9;
        let now = newest - 1.764e9;
        prop_assert!(now - oldest >= f64::min(0.9 * now, 100.0 * every), "{oldest} of {now}");
        for depth in depths {
            let appended = oldest + depth * (now - oldest);
            let offset = log.end(appended).floor() as i64;
            if offset >= end {
                continue; // the next record
            }
            let at = ring.appended(offset);
            let Appended::At(found) = at else { panic!("{at:?} within the ring") };
            let (age, measured) = (now - appended, newest - found);
            // Between two samples nothing is known, and an offset is a whole number.
            let grain = every * (1.0 + jitter) / 2.0 + 2.0 / usual;
            prop_assert!((measured - age).abs() <= 0.1 * age + grain, "{age} s old, measured {measured} s");
        }
    }
}
