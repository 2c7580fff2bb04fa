//! Transfers that are interrupted by anything, again and again, until one gets through.
//!
//! Both machines run in the simulated time of [`World`]. The source and the target are the real ones of the file system.
//! The disk of the target forgets what was not synced when its power fails (`storage/fs/sys/simulated.rs`). A seed
//! chooses what happens.

mod directories;
mod ground;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use self::directories::Directories;
use self::ground::Ground;
use super::tree::Random;
use super::world::{Conditions, World};
use super::{CALM, number};
use crate::protocol::final_name::Exists;
use crate::storage::fs::simulation::{Faults, SimulatedDisk};

/// Seeds of one run of the tests. `TOWLINE_SIM_SEEDS=100000 cargo test --lib crashes` is a long run.
const SIM_SEEDS: u64 = 10_000;
/// Seeds that have found a mistake, with what it was.
const REGRESSIONS: [u64; 0] = [];
/// Steps of one attempt, which needs a few hundred.
const STEPS_MAX: u64 = 200_000;

/// How an attempt ends, if nothing else ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// When it is done.
    Done,
    /// Both sides lose each other.
    Cut,
    /// The receiver is killed.
    Killed,
    /// The system of the receiver stops.
    PowerLoss,
}

/// Everything that one attempt meets.
#[derive(Debug, Clone, Copy)]
struct Plan {
    end: End,
    /// The cut comes after so many steps.
    cut_at: u64,
    faults: Faults,
    conditions: Conditions,
    changes_percent: u64,
}

impl Plan {
    fn calm(exists: Exists) -> Self {
        let conditions = Conditions { exists, ..CALM };
        Self { end: End::Done, cut_at: u64::MAX, faults: Faults::default(), conditions, changes_percent: 0 }
    }

    fn random(random: &mut Random, exists: Exists) -> Self {
        let mut plan = Self::calm(exists);
        // Early and late ones are as likely.
        let mut some = |bits: u64| {
            let bits = random.below(bits) + 1;
            random.below(1 << bits) + 1
        };
        let (calls, steps, full, sync) = (some(9), some(10), some(9), some(7));
        plan.end = match random.below(10) {
            0 => End::Done,
            1..=3 => End::Cut,
            4..=6 => End::Killed,
            _ => End::PowerLoss,
        };
        plan.faults.dies_at = matches!(plan.end, End::Killed | End::PowerLoss).then_some(calls);
        // A chunk is made zeros before it is written anew, and that is rare.
        plan.faults.dies_behind_zeros =
            (plan.end == End::Killed && random.percent(50)).then_some(1 + random.below(3));
        // The cut may come before, and the rest while what is staged is given up.
        plan.cut_at = if plan.end == End::Cut || random.percent(30) { steps } else { u64::MAX };
        plan.faults.full_at = random.percent(10).then_some(full);
        plan.faults.sync_fails_at = random.percent(10).then_some(sync);
        plan.faults.lacks_rename = random.percent(10);
        plan.changes_percent = if random.percent(30) { 2 } else { 0 };
        plan.conditions.losing_percent = if random.percent(20) { 5 } else { 0 };
        if random.percent(60) {
            // Slow, so that there are checkpoints in the middle of files. What is lost all the time would never arrive.
            plan.conditions.delay_max = Duration::from_millis(1500);
            plan.conditions.losing_percent = 0;
        }
        plan.conditions.disk_max = Duration::from_millis(1 + random.below(200));
        plan
    }
}

/// One seed, to its end. Returns a hash of all that it did to the disk.
fn run(seed: u64) -> blake3::Hash {
    let mut random = Random(seed);
    let mut ground = Ground::new(&mut random);
    for _ in 0..1 + random.below(4) {
        if ground.is_gone() {
            break;
        }
        let plan = Plan::random(&mut random, ground.exists);
        ground = attempt(ground, &mut random, plan);
        if random.percent(60) {
            ground.change_any(&mut random);
        }
    }
    if !ground.is_gone() {
        let calm = Plan::calm(ground.exists);
        ground = attempt(ground, &mut random, calm);
        ground.check_done();
    }
    let history = SimulatedDisk::history();
    SimulatedDisk::remove();
    history
}

/// One attempt, with everything that is checked after it.
#[allow(clippy::print_stdout, reason = "a seed that is run again tells what it does")]
fn attempt(ground: Ground, random: &mut Random, plan: Plan) -> Ground {
    SimulatedDisk::start(plan.faults);
    let (ends, walk) = Directories::open(ground, plan.changes_percent);
    let mut world = World::of(ends, walk, Random(random.next()), plan.conditions);
    let is_finished = proceed(&mut world, plan);
    if number("TOWLINE_SEED").is_some() {
        println!("done: {is_finished}: {plan:?}");
        world.sent.values().for_each(|settled| println!("  {}: {:?}", settled.entry.path, settled.outcome));
    }
    let mut ends = world.ends;
    if is_finished {
        ends.remove_sources(random, plan.end == End::Done && !plan.may_fail());
    } else {
        ends.abort();
    }
    if matches!(plan.end, End::Killed | End::PowerLoss) {
        SimulatedDisk::kill();
    }
    let mut ground = ends.leave();
    if random.percent(15) {
        SimulatedDisk::check();
    }
    if plan.end == End::PowerLoss {
        SimulatedDisk::cut_power();
    }
    ground.check();
    ground
}

/// Steps until something ends the attempt; whether all of it is done.
fn proceed(world: &mut World<Directories>, plan: Plan) -> bool {
    for step in 0..STEPS_MAX {
        if step == plan.cut_at && world.sender.finished().is_none() {
            return false;
        }
        match world.step() {
            _ if SimulatedDisk::is_dead() => return false,
            Ok(true) => {}
            Ok(false) => return true,
            Err(failure) => {
                assert!(plan.may_fail(), "{failure}: {plan:?}");
                return false;
            }
        }
    }
    panic!("the attempt never ends");
}

impl Plan {
    fn may_fail(&self) -> bool {
        self.faults.full_at.is_some() || self.faults.sync_fails_at.is_some()
    }
}

/// Runs seeds on all processors.
fn run_all(seeds: impl Fn(u64) -> Option<u64> + Sync) {
    let (next, failed) = (AtomicU64::new(0), Mutex::new(None));
    let work = || {
        while failed.lock().unwrap().is_none()
            && let Some(seed) = seeds(next.fetch_add(1, Relaxed))
        {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
                failed.lock().unwrap().get_or_insert((seed, text.to_owned()));
                SimulatedDisk::remove();
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    if let Some((seed, text)) = failed.into_inner().unwrap() {
        panic!(
            "TOWLINE_SEED={seed} fails: {text}\nrun it again: TOWLINE_SEED={seed} cargo test --locked --lib \
             crashes_lose_nothing -- --nocapture"
        );
    }
}

#[test]
fn crashes_lose_nothing() {
    if let Some(seed) = number("TOWLINE_SEED") {
        run(seed);
        return;
    }
    run_all(|n| REGRESSIONS.get(usize::try_from(n).unwrap()).copied());
    let seeds = number("TOWLINE_SIM_SEEDS").unwrap_or(SIM_SEEDS);
    run_all(|n| (n < seeds).then_some(n));
}

#[test]
fn a_seed_does_the_same_each_time() {
    for seed in 0..50 {
        assert_eq!(run(seed), run(seed), "TOWLINE_SEED={seed}");
    }
}
