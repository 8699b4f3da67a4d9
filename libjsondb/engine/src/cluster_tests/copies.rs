//! A database of several copies, each on a server of its own: machines are cut off from some, some lose all that is on them and are brought
//! back, while others read and write. Nothing that was acknowledged is lost, and there is one history.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::process::{self, Actor, Contents, Place, Work, contents};
use super::redis::Redis;
use super::{Figures, Plan, end_of, judge, run_all, run_seeds, settled};
use crate::checker::Guarantee;
use crate::os::simulated::{Faults, Setting, World, pause};
use crate::random::Random;
use crate::shared::coordinator::Coordinator;
use crate::{CancelToken, CopyState, Options, Progress, Result};

const FOLDER: &str = "/copy0";

fn plan(seed: u64) -> Plan {
    let mut random = Random::new(seed ^ 0xC0_91E5);
    let count = [2, 3, 3, 5][random.below(4) as usize];
    let is_standalone = random.one_in(2);
    let machines = if is_standalone { 1 } else { 2 + random.below(2) as usize };
    let processes: Vec<usize> = (0..machines.max(2) * 2).map(|process| process % machines).collect();
    // Who cannot look at enough copies reads what it has; a call that is made twice may cost a copy.
    let is_strict = is_standalone && random.one_in(2);
    let often = |random: &mut Random, once_in: u64| if random.one_in(2) { once_in } else { 0 };
    let unless_strict = |once_in: u64| if is_strict { 0 } else { once_in };
    let faults = Faults {
        lost_reply: unless_strict(often(&mut random, 60)),
        lost_for_good: unless_strict(often(&mut random, 400)),
        pause: often(&mut random, 400),
        kill: often(&mut random, 1000),
        cut: unless_strict(often(&mut random, 300)),
        emptied: if is_strict { 400 } else { often(&mut random, 2000) },
        ..Faults::default()
    };
    // As many as the others can do without; of two not the first.
    let spare = (count - 1) / 2;
    let mut copies = vec![false; count];
    let first = random.below(count as u64) as usize;
    (0..spare).for_each(|step| copies[(first + step) % count] = true);
    if count == 2 {
        copies[1] = true;
    }
    let options = Options {
        memtable_bytes: 8 << 10,
        page_cache_bytes: 1 << 20,
        lock_timeout: Duration::from_secs(200),
        mirrors: (1..count).map(|copy| PathBuf::from(format!("/copy{copy}"))).collect(),
        ..Options::default()
    };
    let work = Work {
        place: Place { folder: FOLDER, is_standalone, reinstate: 10 + random.below(30) },
        steps: 20 + random.below(40),
        has_faults: faults.any(),
        options,
        checkpoint: 10 + random.below(60),
        rest: 8 + random.below(60),
    };
    Plan {
        setting: Setting { processes, faults, remembers_misses: false, maps_taken: random.one_in(3), copies },
        work,
        guarantee: if is_strict { Guarantee::Strict } else { Guarantee::Serializable },
    }
}

fn simulate(seed: u64) -> std::result::Result<Figures, String> {
    let Plan { setting, work, guarantee } = plan(seed);
    let processes = setting.processes.len();
    let world = World::new(seed, &setting);
    world.calm();
    world.begin_anew(1);
    run_all(&world, 1, |_| settled(|| work.place.open(&work.options, None).map(drop)))?;
    world.begin_anew(processes);
    world.disturb(setting.faults);
    let redis: Arc<dyn Coordinator> = Arc::new(Redis::new(seed));
    let acted = run_all(&world, processes, |process| {
        process::run(process as u64, &work, &redis, &mut Random::new(seed * 100 + process as u64))
    })?;
    let actors: Vec<Actor> = acted.into_iter().flatten().collect();
    let end = end_of(&actors);
    world.calm();
    world.begin_anew(1);
    run_all(&world, 1, |_| {
        pause(Duration::from_secs(3600));
        settled(|| bring_back(&work));
    })?;
    world.begin_anew(processes);
    let found = run_all(&world, processes, |process| {
        pause(Duration::from_secs(3600));
        settled(|| at_last(&work, end, process))
    })?;
    if let Some(other) =
        found.iter().find(|other| (&other.events, other.sum) != (&found[0].events, found[0].sum))
    {
        return Err(format!("processes disagree: {other:?} and {:?}", found[0]));
    }
    let (calls, digest) = world.figures();
    let mut figures = judge(actors, &found[0], guarantee)?;
    (figures.calls, figures.digest) = (calls, digest);
    Ok(figures)
}

/// All copies are up to date in the end.
fn bring_back(work: &Work) -> Result<()> {
    let database = work.place.open(&work.options, None)?;
    let status = database.reinstate(None, &[], &mut Progress::new(&CancelToken::new(), &mut |_, _| true))?;
    let all = status.copies.iter().all(|copy| copy.state == CopyState::Member);
    assert!(all && status.can_commit, "not all are up to date: {status:?}");
    Ok(())
}

fn at_last(work: &Work, end: u64, process: usize) -> Result<Contents> {
    let database = work.place.open(&work.options, None)?;
    let found = contents(&database, end)?;
    if process == 0 {
        database.checkpoint()?;
    }
    database.close()?;
    Ok(found)
}

#[test]
fn copies_on_servers_of_their_own_that_fail_and_are_lost() {
    run_seeds("copies", 1000, simulate);
}
