//! Floors and ceilings by time.
//!
//! The search for the next occurrence of a pattern takes some microseconds, and of one that never occurs (30 February)
//! it scans thousands of years. So each search runs once, and its answer is kept until that time has passed.

use jiff::{Timestamp, tz::TimeZone};

use super::super::contract::settings::Schedule;
use sluice_base::num;
use sluice_base::units::Seconds;

/// First occurrence of a schedule after a moment. Times are Unix seconds.
#[derive(Debug, Clone)]
struct NextOccurrence {
    name: String,
    pattern: String,
    zone: TimeZone,
    after: f64,
    /// Infinite if there is none.
    next: f64,
}

/// Cache of the searches done so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calendar {
    found: Vec<NextOccurrence>,
}

/// Range of workers that the active schedules allow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) floor: Option<u32>,
    pub(crate) ceiling: Option<u32>,
}

/// Returns the highest floor of the schedules that are active at `now`, or 0 if none is active.
pub fn scheduled_floor(schedules: &[Schedule], now: Seconds) -> u32 {
    Calendar::default().bounds(schedules, now.0).floor.unwrap_or(0)
}

impl Calendar {
    /// Returns the highest floor and the lowest ceiling of the schedules that are active at `now`.
    pub(crate) fn bounds(&mut self, schedules: &[Schedule], now: f64) -> Bounds {
        self.found.retain(|f| schedules.iter().any(|s| s.name == f.name));
        let mut bounds = Bounds::default();
        for schedule in schedules {
            // A schedule is active if an occurrence lies in (now - duration, now].
            let begun = self.next_occurrence(schedule, now - schedule.duration.0) <= now;
            if !begun {
                continue;
            }
            bounds.floor = bounds.floor.max(schedule.min_replicas);
            bounds.ceiling = match (bounds.ceiling, schedule.max_replicas) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        bounds
    }

    /// Returns the first occurrence after `after`, or infinity if there is none.
    fn next_occurrence(&mut self, schedule: &Schedule, after: f64) -> f64 {
        let pattern = schedule.cron.as_str();
        let same =
            |f: &&NextOccurrence| f.name == schedule.name && f.pattern == pattern && f.zone == schedule.time_zone;
        if let Some(found) = self.found.iter().find(same).filter(|f| f.after <= after && after < f.next) {
            return found.next;
        }
        let next = search(schedule, after).unwrap_or(f64::INFINITY);
        self.found.retain(|f| f.name != schedule.name);
        self.found.push(NextOccurrence {
            name: schedule.name.clone(),
            pattern: pattern.to_owned(),
            zone: schedule.time_zone.clone(),
            after,
            next,
        });
        next
    }
}

fn search(schedule: &Schedule, after: f64) -> Option<f64> {
    let start = Timestamp::from_second(num::floor_i64(num::finite(after)?)).ok()?.to_zoned(schedule.time_zone.clone());
    let next = schedule.cron.find_next_occurrence(&start, false).ok()?;
    Some(num::of_i64(next.timestamp().as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_base::units::Seconds;

    fn schedule(pattern: &str, zone: &str, hours: f64) -> Schedule {
        Schedule {
            name: pattern.to_owned(),
            cron: croner::parser::CronParser::new().parse(pattern).unwrap(),
            time_zone: TimeZone::get(zone).unwrap_or(TimeZone::UTC),
            duration: Seconds(hours * 3600.0),
            min_replicas: Some(6),
            max_replicas: Some(9),
        }
    }

    fn at(text: &str) -> f64 {
        num::of_i64(text.parse::<Timestamp>().unwrap().as_second())
    }

    #[test]
    fn schedule_is_active_for_its_duration() {
        let morning = [schedule("0 7 * * 1-5", "UTC", 3.0)];
        let mut calendar = Calendar::default();
        for (time, active) in [
            ("2026-11-25T06:59:59Z", false),
            ("2026-11-25T07:00:00Z", true),
            ("2026-11-25T09:59:59Z", true),
            ("2026-11-25T10:00:00Z", false),
            ("2026-11-28T08:00:00Z", false), // a Saturday
            ("2026-11-25T08:00:00Z", true),  // time went back
        ] {
            assert_eq!(calendar.bounds(&morning, at(time)).floor.is_some(), active, "{time}");
        }
    }

    #[test]
    fn overlapping_schedules_give_the_tightest_range() {
        let mut night = schedule("0 0 * * *", "UTC", 24.0);
        night.min_replicas = Some(8);
        night.max_replicas = Some(20);
        let bounds =
            Calendar::default().bounds(&[schedule("0 7 * * *", "UTC", 3.0), night], at("2026-11-25T08:00:00Z"));
        assert_eq!(bounds, Bounds { floor: Some(8), ceiling: Some(9) });
    }

    #[test]
    fn impossible_date_is_searched_once() {
        let never = [schedule("0 0 30 2 *", "UTC", 3.0)];
        let mut calendar = Calendar::default();
        let now = at("2026-11-25T07:00:00Z");
        assert_eq!(calendar.bounds(&never, now), Bounds::default());
        assert_eq!(calendar.found.len(), 1);
        assert!(calendar.found[0].next.is_infinite());
        for later in 1..1000 {
            calendar.bounds(&never, now + f64::from(later));
        }
        assert_eq!(calendar.found[0].after, now - 3.0 * 3600.0, "no second search");
        assert_eq!(calendar.bounds(&never, f64::NAN), Bounds::default());
        assert_eq!(calendar.bounds(&never, 1e300), Bounds::default());
    }
}
