//! Draws a world at random, within ranges found in practice and weighted by how common they are.

use super::logs::weights;
use super::shapes::{self, between, choose, log_between};
use super::world::{
    Assignor, Bottleneck, Commits, Deaths, Deploy, Handover, History, Owners, Pauses, Phase, Signals, Tide, World,
};
use crate::load::Load;
use crate::random::Random;

/// Most workers that the peak of a load needs.
const MOST_NEEDED: f64 = 80.0;
/// Largest load, records per second.
const MOST_RECORDS: f64 = 1e6;

impl World {
    /// Returns the world of this seed.
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed, 30);
        let random = &mut random;
        let mut world = Self { seed, ..Self::default() };
        records(&mut world, random);
        objective(&mut world, random);
        starts(&mut world, random);
        load(&mut world, random);
        group(&mut world, random);
        workers(&mut world, random);
        faults(&mut world, random);
        signals(&mut world, random);
        world
    }
}

/// Cost of a record: 20 us to 10 min, most below 100 ms; half of the jobs have uneven ones. Lanes: most workers have
/// one thread, some up to 16.
fn records(world: &mut World, random: &mut Random) {
    let (low, high) = choose(
        random,
        &[((2e-5, 1e-3), 15.0), ((1e-3, 0.1), 55.0), ((0.1, 1.0), 15.0), ((1.0, 30.0), 11.0), ((30.0, 600.0), 4.0)],
    );
    world.record_cost = log_between(random, low, high);
    world.cost_sigma = choose(random, &[(0.0, 50.0), (0.5, 35.0), (1.0, 15.0)]);
    world.lanes = choose(random, &[(1, 60.0), (2, 10.0), (4, 14.0), (8, 10.0), (16, 6.0)]);
}

/// 1 s to 10 min, mostly 5, 10, 30 or 60 s; longer where the 99th percentile of one record's own time leaves no room.
/// Percentiles 50 to 99.9, mostly 99.
fn objective(world: &mut World, random: &mut Random) {
    let any = log_between(random, 1.0, 600.0);
    let wanted = choose(random, &[(5.0, 12.0), (10.0, 25.0), (30.0, 15.0), (60.0, 20.0), (any, 28.0)]);
    let longest = world.record_cost * (2.33 * world.cost_sigma - world.cost_sigma.powi(2) / 2.0).exp();
    world.latency = wanted.max(4.0 * longest).round();
    let any = between(random, 0.5, 0.999);
    world.percentile = choose(random, &[(0.99, 60.0), (0.95, 12.0), (0.9, 6.0), (0.999, 12.0), (0.5, 3.0), (any, 7.0)]);
}

/// Start-up 1 s to 5 min with a long tail, around 15 s. Ready before it works: half of the jobs not at all, others up
/// to 30 s (no readiness probe). Handover 0.2 to 60 s, mostly 0.5 to 5 s.
fn starts(world: &mut World, random: &mut Random) {
    world.start_up = (15.0_f64.ln() + random.normal()).exp().clamp(1.0, 300.0);
    world.start_up_spread = between(random, 0.1, 0.6);
    let early = between(random, 0.0, 30.0);
    world.ready_before_joining = choose(random, &[(0.0, 50.0), (early, 50.0)]);
    world.removal = log_between(random, 1.0, 30.0);
    world.handover_seconds = (2.0_f64.ln() + random.normal()).exp().clamp(0.2, 60.0);
}

/// Mean need 0.1 to 30 workers. One to three hours, longer where a start-up, the objective or a record asks for it.
/// Partitions 1 to 1,000, most 12 to 120, enough for the peak. At most 1.5 to 5 times what the peak needs.
fn load(world: &mut World, random: &mut Random) {
    let asks = (30.0 * world.start_up).max(12.0 * world.latency).max(20.0 * world.record_cost);
    let seconds = between(random, 3600.0, 10_800.0).max(asks).min(21_600.0) as usize;
    let (name, shape) = shapes::draw(random, seconds);
    let mut sorted = shape.clone();
    sorted.sort_by(f64::total_cmp);
    let peak = sorted[(sorted.len() as f64 * 0.995) as usize].max(1.0);
    let need = log_between(random, 0.1, 30.0).min(MOST_NEEDED / peak).min(MOST_RECORDS / world.capacity());
    let lanes = f64::from(world.lanes);
    let counts = [(1, 4.0), (3, 10.0), (12, 28.0), (24, 25.0), (120, 22.0), (500, 7.0), (1000, 4.0)];
    let wanted = choose(random, &counts);
    let enough = |partitions: usize| partitions as f64 >= 1.4 * need * peak * lanes;
    world.partitions =
        counts.iter().map(|(count, _)| *count).filter(|count| *count >= wanted).find(|c| enough(*c)).unwrap_or(1000);
    let any = between(random, 0.0, 1.0);
    world.weight_sigma = choose(random, &[(0.0, 30.0), (0.3, 40.0), (any, 30.0)]);
    let hot = between(random, 1.5, 6.0) / world.partitions as f64;
    world.hot_share = (random.uniform() < 0.08 && world.partitions > 3).then_some(hot.min(0.6));
    // A user who has a partition that is too hot for any worker fixes that; one in twenty has not done so yet.
    let hottest = weights(world).into_iter().fold(0.0, f64::max);
    let fits = if random.uniform() < 0.05 { f64::INFINITY } else { 0.7 / (peak * lanes * hottest) };
    let need = need.min(fits);
    let rate = need * world.capacity();
    world.load = Load::new(shape.iter().map(|share| (share * rate) as f32).collect());
    world.name = format!("{name}, {need:.2} needed");
    world.max_workers = ((need * peak * between(random, 1.5, 5.0)).ceil() as u32).max(2);
    let some = 1 + (need * random.uniform() / 2.0) as u32;
    world.min_workers = choose(random, &[(0, 6.0), (1, 74.0), (some, 20.0)]).min(world.max_workers);
    let first = shape.iter().take(300).sum::<f64>() / 300.0;
    let right = (need * first / 0.8).ceil() as u32;
    let many = 1 + random.below(world.max_workers as usize) as u32;
    let start = choose(random, &[(right, 60.0), (1, 25.0), (many, 15.0)]);
    world.start_workers = start.clamp(world.min_workers.max(1), world.max_workers);
}

/// Commits: each batch, or every 0.1 to 60 s with mass at Kafka's 5 s and Kafka Streams' 30 s, or by checkpoints.
fn group(world: &mut World, random: &mut Random) {
    let any = log_between(random, 0.1, 60.0);
    let seconds = choose(random, &[(5.0, 45.0), (30.0, 15.0), (60.0, 5.0), (any, 35.0)]);
    let phase = choose(random, &[(Phase::Worker, 70.0), (Phase::Partition, 15.0), (Phase::All, 15.0)]);
    let every = log_between(random, 5.0, 60.0);
    let checkpoint = Commits::Checkpoint { seconds: every, takes: every * between(random, 0.02, 0.4) };
    world.commits =
        choose(random, &[(Commits::Every { seconds, phase }, 75.0), (Commits::Batch, 15.0), (checkpoint, 10.0)]);
    world.commits_on_revoke = !matches!(world.commits, Commits::Checkpoint { .. }) && random.uniform() < 0.9;
    (world.assignor, world.handover) = choose(
        random,
        &[
            ((Assignor::CooperativeSticky, Handover::Cooperative), 40.0),
            ((Assignor::Range, Handover::Eager), 25.0),
            ((Assignor::RoundRobin, Handover::Eager), 5.0),
            ((Assignor::Sticky, Handover::Eager), 10.0),
            ((Assignor::Uniform, Handover::Kip848), 15.0),
            ((Assignor::Range, Handover::Kip848), 5.0),
        ],
    );
    let retained = log_between(random, 1.0, 1e6) as u32;
    world.history =
        choose(random, &[(History::Established, 75.0), (History::New, 12.0), (History::Latest { retained }, 13.0)]);
    let size = log_between(random, 1.0, 1000.0).round();
    world.records_per_transaction = (random.uniform() < 0.15).then_some(size);
}

/// Workers differ by up to 2x, usually by a few per cent; some start cold, some do more in larger batches.
fn workers(world: &mut World, random: &mut Random) {
    let (few, many) = (between(random, 0.0, 0.05), between(random, 0.05, 0.2));
    world.speed_spread = choose(random, &[(few, 65.0), (many, 35.0)]);
    world.speed_noise = between(random, 0.0, 0.08);
    let mut sometimes = |share: f64, low: f64, high: f64| {
        let value = between(random, low, high);
        (random.uniform() < share).then_some(value)
    };
    world.slow_one = sometimes(0.08, 0.4, 0.8);
    world.cold = sometimes(0.25, 0.3, 1.0).unwrap_or(1.0);
    world.batch_gain = sometimes(0.15, 0.1, 0.5).unwrap_or(0.0);
    world.tide = sometimes(0.1, 0.1, 0.3).map(|amplitude| Tide { amplitude, period: 3600.0 + 7200.0 * amplitude });
}

/// Pauses of 1 to 8 s every few minutes in a fifth of the jobs; sometimes a rollout, deaths, a shared bottleneck, or a
/// restart of the operator.
fn faults(world: &mut World, random: &mut Random) {
    let seconds = world.seconds();
    let pauses = Pauses {
        every: between(random, 120.0, 600.0),
        seconds: between(random, 1.0, 8.0),
        together: random.uniform() < 0.3,
    };
    world.pauses = (random.uniform() < 0.2).then_some(pauses);
    let deploy = Deploy { at: between(random, 0.3, 0.7) * seconds, speed: between(random, 0.7, 1.3) };
    world.deploy = (random.uniform() < 0.12).then_some(deploy);
    let deaths =
        Deaths { every: log_between(random, 900.0, 7200.0), notice: choose(random, &[(7.0, 1.0), (41.0, 1.0)]) };
    world.deaths = (random.uniform() < 0.12).then_some(deaths);
    let most = world.load.rates().iter().copied().fold(0.0, f32::max);
    let from = between(random, 0.0, 0.5) * seconds;
    let loss = between(random, 0.0, 0.04);
    let bottleneck = Bottleneck {
        rate: f64::from(most) * between(random, 0.4, 1.1),
        loss_per_worker: choose(random, &[(0.0, 1.0), (loss, 1.0)]),
        from,
        until: from + between(random, 0.2, 1.0) * seconds,
    };
    world.bottleneck = (random.uniform() < 0.07).then_some(bottleneck);
    let at = between(random, 0.4, 0.8) * seconds;
    world.restart_at = (random.uniform() < 0.15).then_some(at);
}

/// Most jobs report little. The log's start and the due ends cost further requests, which a broker may refuse.
fn signals(world: &mut World, random: &mut Random) {
    let workers = choose(
        random,
        &[
            (Signals::COMMITS_ONLY, 35.0),
            (Signals::COUNTERS, 18.0),
            (Signals { concurrency: false, ..Signals::COUNTERS_AND_BUSY }, 12.0),
            (Signals::COUNTERS_AND_BUSY, 15.0),
            (Signals::EVERYTHING, 20.0),
        ],
    );
    world.signals = Signals {
        start: random.uniform() < 0.8,
        due_end: random.uniform() < 0.6,
        offset_reset: random.uniform() < 0.5,
        owners: choose(random, &[(Owners::Known, 65.0), (Owners::Unknown, 25.0), (Owners::OneName, 10.0)]),
        ..workers
    };
    world.jitter = 0.2;
    let some = between(random, 0.0, 0.05);
    world.missed = choose(random, &[(0.0, 50.0), (some, 50.0)]);
}
