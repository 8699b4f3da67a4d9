//! The processes of all machines on one folder, and what goes wrong with them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{self, Random};
use crate::history::Model;
use crate::network::Network;
use crate::process::Worker;
use crate::redis_server::RedisServer;
use crate::{markers, sessions, workload};

pub const MACHINES: u64 = 3;
const PROCESSES: u64 = 2;
/// Of each process.
pub const THREADS: u64 = 2;
/// A worker that does nothing for so long, although nothing is wrong any more, hangs.
const HANGS: Duration = Duration::from_secs(120);

/// What went wrong.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Killed,
    Stopped,
    CutOff,
    RedisStopped,
    RedisReplaced,
    RedisEmptied,
}

/// What ends a fault that lasts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mend {
    Continue(usize),
    Kill(usize),
    Join(u64),
    WakeRedis,
}

/// A worker, and its first session.
struct Running {
    worker: Worker,
    first: u64,
}

pub struct Machines {
    folder: tempfile::TempDir,
    outside: tempfile::TempDir,
    workers: Vec<Running>,
    redis: RedisServer,
    network: Option<Network>,
    model: Model,
    seed: u64,
    random: Random,
    sessions: u64,
    lasting: BTreeSet<(Instant, Mend)>,
}

impl Machines {
    pub fn start(network: Option<Network>, model: Model, seed: u64) -> Machines {
        let folder = match std::env::var_os("SOP_FOLDER") {
            Some(parent) => tempfile::tempdir_in(parent).unwrap(),
            None => common::scratch(),
        };
        // Before the workers begin: none of them is refused what it needs.
        let database = engine::Database::open_shared(folder.path(), &workload::options(), None).unwrap();
        workload::stores(&database);
        markers(&database);
        database.close().unwrap();
        let mut machines = Machines {
            folder,
            outside: common::scratch(),
            workers: Vec::new(),
            redis: RedisServer::start(network.as_ref()),
            network,
            model,
            seed,
            random: Random::new(seed),
            sessions: 0,
            lasting: BTreeSet::new(),
        };
        machines.workers =
            (0..MACHINES * PROCESSES).map(|index| machines.start_worker(index as usize)).collect();
        machines
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn outside(&self) -> &Path {
        self.outside.path()
    }

    /// Number of sessions that were begun.
    pub fn sessions(&self) -> u64 {
        self.sessions
    }

    pub fn are_namespaces(&self) -> bool {
        self.network.is_some()
    }

    fn start_worker(&mut self, index: usize) -> Running {
        let first = self.sessions;
        self.sessions += THREADS;
        let program = std::env::current_exe().unwrap().display().to_string();
        let command = match &self.network {
            Some(network) => network.command(index as u64 / PROCESSES, &program),
            None => Command::new(&program),
        };
        let [folder, outside] = [self.folder(), self.outside()].map(|path| path.display().to_string());
        let (model, seed) = (format!("{:?}", self.model), self.seed.to_string());
        let words = [&folder, &outside, &self.redis.address(), &model, &seed, &first.to_string()];
        let worker = Worker::start_by(command, "worker", &words.map(String::as_str));
        Running { worker, first }
    }

    /// Waits a little, and lets something go wrong.
    pub fn fail_somehow(&mut self) -> Fault {
        let pause = Duration::from_millis(self.random.below(200));
        self.mend_until(Instant::now() + pause);
        loop {
            let fault = match self.random.below(10) {
                0..5 => Fault::Killed,
                5 | 6 => Fault::Stopped,
                7 if self.are_namespaces() => Fault::CutOff,
                7 => Fault::RedisStopped,
                8 => Fault::RedisReplaced,
                _ => Fault::RedisEmptied,
            };
            if self.fail(fault) {
                return fault;
            }
        }
    }

    /// False when what is to fail has failed already.
    fn fail(&mut self, fault: Fault) -> bool {
        let index = self.random.below(MACHINES * PROCESSES) as usize;
        let is_stopped =
            self.lasts(|mend| matches!(mend, Mend::Continue(other) | Mend::Kill(other) if other == index));
        let is_redis_stopped = self.lasts(|mend| mend == Mend::WakeRedis);
        match fault {
            Fault::Killed if !is_stopped => self.kill(index),
            Fault::Stopped if !is_stopped => {
                self.workers[index].worker.signal(libc::SIGSTOP);
                let end = if self.random.one_in(2) { Mend::Kill(index) } else { Mend::Continue(index) };
                self.mend_later(end);
            }
            Fault::CutOff => {
                let machine = self.random.below(MACHINES);
                if self.lasts(|mend| mend == Mend::Join(machine)) {
                    return false;
                }
                self.network.as_ref().unwrap().cut(machine);
                self.mend_later(Mend::Join(machine));
            }
            Fault::RedisStopped if !is_redis_stopped => {
                self.redis.signal(libc::SIGSTOP);
                self.mend_later(Mend::WakeRedis);
            }
            Fault::RedisReplaced if !is_redis_stopped => self.redis.replace(self.network.as_ref()),
            Fault::RedisEmptied if !is_redis_stopped => self.redis.flush(),
            _ => return false,
        }
        true
    }

    fn lasts(&self, is_it: impl Fn(Mend) -> bool) -> bool {
        self.lasting.iter().any(|(_, mend)| is_it(*mend))
    }

    fn mend_later(&mut self, mend: Mend) {
        // Now and then for longer than anybody trusts what it knew before (S3).
        let most = if self.random.one_in(25) { 12_000 } else { 1_000 };
        let lasts = Duration::from_millis(self.random.below(most));
        self.lasting.insert((Instant::now() + lasts, mend));
    }

    /// Mends what is due, until then.
    fn mend_until(&mut self, end: Instant) {
        loop {
            let next = self.lasting.first().copied().filter(|(due, _)| *due <= end);
            std::thread::sleep(next.map_or(end, |(due, _)| due).saturating_duration_since(Instant::now()));
            let Some(next) = next else { return };
            self.lasting.remove(&next);
            match next.1 {
                Mend::Continue(index) => self.workers[index].worker.signal(libc::SIGCONT),
                Mend::Kill(index) => self.kill(index),
                Mend::Join(machine) => self.network.as_ref().unwrap().join(machine),
                Mend::WakeRedis => self.redis.signal(libc::SIGCONT),
            }
        }
    }

    fn kill(&mut self, index: usize) {
        self.workers[index].worker.kill();
        self.workers[index] = self.start_worker(index);
    }

    /// Mends everything, and waits until each worker has done something since.
    pub fn wait_for_everybody(&mut self) {
        while let Some((due, _)) = self.lasting.first() {
            self.mend_until(*due);
        }
        let sizes = |machines: &Machines| -> Vec<u64> {
            let sessions = machines.workers.iter().flat_map(|running| running.first..running.first + THREADS);
            let size = |session| {
                fs::metadata(sessions::path(machines.outside(), session)).map_or(0, |file| file.len())
            };
            sessions.map(size).collect()
        };
        let (before, began) = (sizes(self), Instant::now());
        while sizes(self).iter().zip(&before).any(|(now, before)| now == before) {
            assert!(began.elapsed() < HANGS, "a session hangs: {before:?}, now {:?}", sizes(self));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills all at once.
    pub fn kill_all(&mut self) {
        for running in &mut self.workers {
            assert_eq!(running.worker.ended(), None, "a worker ended by itself");
            running.worker.signal(libc::SIGKILL);
        }
        self.workers.clear();
    }
}
