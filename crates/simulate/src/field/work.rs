//! The work of one worker in one step: of a fluid, or record by record.

use super::fleet::Pod;
use super::logs::Logs;
use super::truth::Truth;
use super::world::World;

/// A step of one worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// Beginning and length of the step, seconds.
    pub(crate) now: f64,
    pub(crate) step: f64,
    /// Speed factor of the worker; share of it that the shared bottleneck allows.
    pub(crate) speed: f64,
    pub(crate) allowed: f64,
    /// Whether it is paused.
    pub(crate) stops: bool,
}

/// Returns the records of a fluid that the worker would process without a bottleneck.
pub(crate) fn wanted(world: &World, logs: &Logs, pod: &Pod, turn: Turn) -> f64 {
    let most = turn.speed * turn.step / world.record_cost;
    let need = |p: &u32| if logs.paused[*p as usize] > turn.now { 0.0 } else { logs.backlog(*p as usize).min(most) };
    pod.mine.iter().map(need).sum::<f64>().min(most * f64::from(world.lanes))
}

/// Processes a fluid: equal shares for all partitions, and for one at most what one lane can do.
pub(crate) fn flow(
    world: &World,
    logs: &mut Logs,
    pod: &mut Pod,
    turn: Turn,
    scratch: &mut Vec<f64>,
    truth: &mut Truth,
) {
    let lane = turn.speed * turn.step / world.record_cost;
    scratch.clear();
    let running = turn.now >= logs.all_run_from;
    let mut total = 0.0;
    for p in &pod.mine {
        let p = *p as usize;
        let need = if running || logs.paused[p] <= turn.now { logs.backlog(p).min(lane) } else { 0.0 };
        total += need;
        scratch.push(need);
    }
    if total <= 0.0 {
        return;
    }
    let budget = lane * f64::from(world.lanes);
    let busy = total.min(budget) / lane * turn.step;
    pod.busy += busy;
    if turn.stops {
        return;
    }
    let level = level(scratch, total, budget.min(total) * turn.allowed);
    for (nth, need) in scratch.iter().enumerate() {
        let done = need.min(level);
        if done > 0.0 {
            let p = pod.mine[nth] as usize;
            logs.advance(p, done, turn.now, world.record_cost / turn.speed, truth);
            pod.processed += done;
            if logs.waiting[p].front().is_none_or(|lot| turn.now - lot.arrived <= world.latency) {
                pod.in_time += done;
            }
        }
    }
}

/// Returns the share that each may have at most so that together they get `budget`.
fn level(needs: &[f64], total: f64, budget: f64) -> f64 {
    if total <= budget * (1.0 + 1e-12) {
        return f64::INFINITY;
    }
    let (mut level, mut settled, mut open) = (0.0, 0.0, needs.len());
    // A partition that needs less than an equal share of the rest gets all it needs; the remainder is shared again.
    loop {
        let next = (budget - settled) / open.max(1) as f64;
        if next <= level * (1.0 + 1e-9) {
            return next.max(level);
        }
        level = next;
        (settled, open) = needs
            .iter()
            .fold((0.0, 0), |(sum, count), need| if *need <= level { (sum + need, count) } else { (sum, count + 1) });
    }
}

/// Processes record by record: a free lane takes the next record of a partition that no lane works on.
pub(crate) fn serve(world: &World, logs: &mut Logs, pod: &mut Pod, turn: Turn, truth: &mut Truth) {
    let until = turn.now + turn.step;
    let speed = (turn.speed * turn.allowed).max(1e-6);
    for lane in &mut pod.lanes {
        lane.at = lane.at.max(turn.now);
    }
    if turn.stops {
        pod.busy += turn.step * pod.lanes.iter().filter(|lane| lane.partition.is_some()).count() as f64;
        return;
    }
    loop {
        let earliest = pod.lanes.iter().enumerate().min_by(|a, b| a.1.at.total_cmp(&b.1.at));
        let Some((index, lane)) = earliest.map(|(index, lane)| (index, *lane)).filter(|(_, lane)| lane.at < until)
        else {
            break;
        };
        let next = match lane.partition {
            Some(p) => {
                let ends = lane.at + lane.left / speed;
                pod.busy += ends.min(until) - lane.at;
                if ends > until {
                    super::fleet::Lane { left: lane.left - (until - lane.at) * speed, at: until, ..lane }
                } else {
                    let took = logs.complete(p as usize, ends, truth);
                    logs.held[p as usize] = false;
                    pod.processed += 1.0;
                    pod.waiting -= 1.0;
                    pod.in_time += f64::from(took.is_some_and(|took| took <= world.latency));
                    super::fleet::Lane { partition: None, left: 0.0, at: ends }
                }
            }
            None => match next_record(world, logs, pod, lane.at, turn.now) {
                Some((p, begins, work)) if begins < until => {
                    logs.held[p as usize] = true;
                    super::fleet::Lane { partition: Some(p), left: work, at: begins }
                }
                _ => super::fleet::Lane { at: until, ..lane },
            },
        };
        pod.lanes[index] = next;
    }
}

/// Returns the record that a lane takes which is free at `at`: its partition, when it begins, and its work.
fn next_record(world: &World, logs: &Logs, pod: &mut Pod, at: f64, now: f64) -> Option<(u32, f64, f64)> {
    let held = pod.lanes.iter().filter(|lane| lane.partition.is_some()).count();
    if pod.waiting <= held as f64 {
        return None;
    }
    let mut first: Option<(u32, f64, f64)> = None;
    for turn in 0..pod.mine.len() {
        let place = (pod.pointer + turn) % pod.mine.len();
        let p = pod.mine[place] as usize;
        if logs.held[p] || logs.paused[p] > now {
            continue;
        }
        let again = logs.position[p] < logs.done[p];
        let record = match logs.waiting[p].front() {
            _ if again => (p as u32, at, world.record_cost),
            Some(lot) => (p as u32, at.max(lot.arrived), lot.amount),
            None => continue,
        };
        if record.1 <= at {
            pod.pointer = place + 1;
            return Some(record);
        }
        if first.is_none_or(|first| record.1 < first.1) {
            first = Some(record);
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_shares_go_to_the_others() {
        for (needs, budget, gets) in [
            ([1.0, 10.0, 10.0], 9.0, [1.0, 4.0, 4.0]),
            ([1.0, 2.0, 3.0], 9.0, [1.0, 2.0, 3.0]),
            ([5.0, 5.0, 5.0], 9.0, [3.0, 3.0, 3.0]),
            ([0.0, 0.5, 20.0], 9.0, [0.0, 0.5, 8.5]),
        ] {
            let level = level(&needs, needs.iter().sum(), budget);
            for (need, get) in needs.iter().zip(gets) {
                assert!((need.min(level) - get).abs() < 1e-9, "{needs:?}: {level}");
            }
        }
    }
}
