//! Simulated machines on a simulated network file system: what [`super`] calls when the thread belongs to one of their processes.
//!
//! A process is a thread, and one runs at a time. Each call is a place where another one may go on, a machine may pause, or the process
//! may be killed: chance decides, so a run is the same whenever it begins with the same seed. What is remembered where, and what may go wrong,
//! is that of NFS: names and attributes are believed for a while, a file that is opened is looked at anew, what is written goes to the
//! server at a sync or at the end, a call whose answer is lost is made twice.

mod client;
mod copies;
pub(super) mod fs;
mod machine;
mod server;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::random::Random;
use copies::Copies;
use machine::{Machine, Mount};
use server::{EIO, Handle, Node, Server, error};

/// How often what goes wrong: once in so many calls; 0: never.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// The answer of a call that changes names is lost, and it is made again.
    pub(crate) lost_reply: u64,
    /// It is lost, and the caller is told of an error.
    pub(crate) lost_for_good: u64,
    /// The machine pauses.
    pub(crate) pause: u64,
    /// The process is killed.
    pub(crate) kill: u64,
    /// The machine is started anew: its processes die, with what it had not written back.
    pub(crate) reboot: u64,
    /// The server is started anew; some locks are lost.
    pub(crate) restart: u64,
    /// The disk is full for a while.
    pub(crate) full: u64,
    /// A machine does not reach a copy for a while.
    pub(crate) cut: u64,
    /// What is on a copy that may be lost is lost.
    pub(crate) emptied: u64,
}

impl Faults {
    /// Anything at all goes wrong.
    pub(crate) fn any(&self) -> bool {
        let Faults { lost_reply, lost_for_good, pause, kill, reboot, restart, full, cut, emptied } = *self;
        lost_reply + lost_for_good + pause + kill + reboot + restart + full + cut + emptied > 0
    }
}

/// What the machines are like.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// Machine of each process.
    pub(crate) processes: Vec<usize>,
    pub(crate) faults: Faults,
    /// Machines may remember that there was no such name.
    pub(crate) remembers_misses: bool,
    /// Machines may call a name that is taken a success.
    pub(crate) maps_taken: bool,
    /// Whether what is on it may be lost, of each copy of the database: folders `/copy<index>`.
    pub(crate) copies: Vec<bool>,
}

/// What a process that is killed unwinds with.
pub(crate) struct Killed;

struct Process {
    machine: usize,
    wakes_at: Duration,
    is_killed: bool,
    has_ended: bool,
    open: BTreeMap<Handle, Node>,
}

struct State {
    random: Random,
    now: Duration,
    running: usize,
    processes: Vec<Process>,
    machines: Vec<Machine>,
    server: Server,
    copies: Copies,
    faults: Faults,
    next_handle: Handle,
    /// Microseconds, about: a call from a single machine goes to a disk of its own.
    call_max: u64,
    calls: u64,
    /// Somebody found something wrong: all end.
    is_over: bool,
    digest: u64,
    /// Prints what happens.
    tells: bool,
}

impl State {
    fn tell(&self, action: &str, path: &Path) {
        if self.tells {
            let machine = self.processes[self.running].machine;
            println!(
                "{:?} process {} of machine {machine}: {action} {}",
                self.now,
                self.running,
                path.display()
            );
        }
    }

    fn chance(&mut self, one_in: u64) -> bool {
        one_in > 0 && self.random.one_in(one_in)
    }

    fn at(&self, process: usize) -> Duration {
        let process = &self.processes[process];
        process.wakes_at.max(self.machines[process.machine].paused_until)
    }

    /// Lets time go on and things go wrong, at a call of the running process.
    fn go_on(&mut self) {
        self.calls += 1;
        self.now += Duration::from_micros(50 + self.random.below(self.call_max));
        let faults = self.faults;
        let process = self.running;
        let machine = self.processes[process].machine;
        if self.chance(faults.pause) {
            self.tell("pause", Path::new(""));
            let seconds = match self.random.below(5) {
                0 | 1 => self.random.below(30),
                2 | 3 => self.random.below(400),
                _ => self.random.below(3600),
            };
            self.machines[machine].paused_at = self.now;
            self.machines[machine].paused_until = self.now + Duration::from_secs(seconds);
        }
        if self.chance(faults.restart) {
            let loses = self.random.one_in(2);
            self.tell(if loses { "server loses locks" } else { "server restarts" }, Path::new(""));
            let random = &mut self.random;
            self.server.restart(|| loses && random.one_in(2));
        }
        if self.chance(faults.full) {
            self.server.full_until = self.now + Duration::from_millis(self.random.below(3000));
        }
        if self.chance(faults.cut) {
            let until = self.now + Duration::from_secs(self.random.below(300));
            let copy = self.random.below(self.copies.count() as u64) as usize;
            self.tell("cut off from a copy", Path::new(""));
            self.copies.cut(copy, machine, until);
        }
        if self.chance(faults.emptied) {
            self.empty_a_copy();
        }
        if self.chance(faults.kill) {
            self.kill(process);
        }
        if self.chance(faults.reboot) {
            for file in self.machines[machine].files.values_mut() {
                file.dirty.clear();
            }
            for other in 0..self.processes.len() {
                if self.processes[other].machine == machine && !self.processes[other].has_ended {
                    self.kill(other);
                }
            }
            self.machines[machine].folders.clear();
            self.machines[machine].files.clear();
        }
    }

    fn kill(&mut self, process: usize) {
        self.processes[process].is_killed = true;
        self.tell("kill", Path::new(""));
        let open: Vec<Handle> = self.processes[process].open.keys().copied().collect();
        open.into_iter().for_each(|handle| self.close(process, handle));
    }

    /// Who goes on; None when all have ended.
    fn choose(&mut self) -> Option<usize> {
        let alive = || (0..self.processes.len()).filter(|process| !self.processes[*process].has_ended);
        let earliest = alive().map(|process| self.at(process)).min()?;
        self.now = self.now.max(earliest);
        let ready: Vec<usize> = alive().filter(|process| self.at(*process) <= self.now).collect();
        if ready.contains(&self.running) && !self.random.one_in(4) {
            return Some(self.running);
        }
        let chosen = self.random.below(ready.len() as u64) as usize;
        self.server.now = self.now;
        Some(ready[chosen])
    }
}

/// The machines, their processes, and the server.
pub(crate) struct World {
    state: Mutex<State>,
    wake: Vec<Condvar>,
}

thread_local! {
    static HERE: RefCell<Option<(Arc<World>, usize)>> = const { RefCell::new(None) };
}

impl World {
    pub(crate) fn new(seed: u64, setting: &Setting) -> Arc<World> {
        let mut random = Random::new(seed);
        let machine_count = setting.processes.iter().max().map_or(0, |last| last + 1);
        let machines = (0..machine_count)
            .map(|_| {
                let mount = Mount {
                    age_max: Duration::from_millis([0, 500, 3000, 30_000, 60_000][random.below(5) as usize]),
                    remembers_misses: setting.remembers_misses && random.one_in(2),
                    maps_taken: setting.maps_taken && random.one_in(2),
                };
                Machine::new(mount, Duration::from_secs(random.below(1_000_000)))
            })
            .collect();
        let process = |machine: &usize| Process {
            machine: *machine,
            wakes_at: Duration::ZERO,
            is_killed: false,
            has_ended: false,
            open: BTreeMap::new(),
        };
        let processes: Vec<Process> = setting.processes.iter().map(process).collect();
        let wake = processes.iter().map(|_| Condvar::new()).collect();
        let state = State {
            random,
            now: Duration::from_secs(1000),
            running: 0,
            processes,
            machines,
            server: Server::new(),
            copies: Copies::new(&setting.copies, machine_count),
            faults: setting.faults,
            next_handle: 0,
            call_max: if machine_count == 1 { 150 } else { 1500 },
            calls: 0,
            is_over: false,
            digest: 0,
            tells: std::env::var_os("SOP_TRACE").is_some(),
        };
        Arc::new(World { state: Mutex::new(state), wake })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a process on this thread, until it ends or something is wrong. It may be killed at any call: [`survive`].
    pub(crate) fn run(self: &Arc<World>, process: usize, body: impl FnOnce()) {
        HERE.set(Some((Arc::clone(self), process)));
        let end = End(self, process);
        drop(self.wait(self.lock(), process));
        body();
        drop(end);
        HERE.set(None);
    }

    /// Waits until it is this process's turn.
    fn wait<'a>(&self, mut state: MutexGuard<'a, State>, process: usize) -> MutexGuard<'a, State> {
        while state.running != process && !state.is_over {
            state = self.wake[process].wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn hand_on(&self, state: &mut State) {
        if let Some(next) = state.choose()
            && next != state.running
        {
            state.running = next;
            self.wake[next].notify_one();
        }
    }

    /// A place where others may go on.
    fn step(&self, process: usize) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.go_on();
        self.hand_on(&mut state);
        state = self.wait(state, process);
        state.digest =
            (state.digest ^ process as u64).wrapping_mul(0x100_0000_01b3) ^ state.now.as_nanos() as u64;
        state.server.now = state.now;
        if state.is_over || std::mem::take(&mut state.processes[process].is_killed) {
            drop(state);
            resume_unwind(Box::new(Killed));
        }
        state
    }

    /// From now on nothing goes wrong any more.
    pub(crate) fn calm(&self) {
        let mut state = self.lock();
        state.faults = Faults::default();
        state.server.full_until = Duration::ZERO;
        state.copies.reach_all();
        for machine in &mut state.machines {
            machine.paused_until = Duration::ZERO;
        }
    }

    /// From now on this goes wrong.
    pub(crate) fn disturb(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Lets the first `count` processes run again.
    pub(crate) fn begin_anew(&self, count: usize) {
        let mut state = self.lock();
        state.running = 0;
        for (index, process) in state.processes.iter_mut().enumerate() {
            process.has_ended = index >= count;
            process.is_killed = false;
            process.wakes_at = Duration::ZERO;
        }
    }

    /// Something is wrong: all processes end.
    pub(crate) fn give_up(&self) {
        self.lock().is_over = true;
        self.wake.iter().for_each(Condvar::notify_all);
    }

    /// Calls made, and a number that depends on all that happened.
    pub(crate) fn figures(&self) -> (u64, u64) {
        let state = self.lock();
        (state.calls, state.digest)
    }
}

/// Ends the turn of a process, also when it panics.
struct End<'a>(&'a Arc<World>, usize);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.processes[self.1].has_ended = true;
        if std::thread::panicking() {
            state.is_over = true;
            drop(state);
            self.0.wake.iter().for_each(Condvar::notify_all);
        } else if !state.is_over {
            self.0.hand_on(&mut state);
        }
    }
}

/// Runs what may be killed. None: it was.
pub(crate) fn survive<T>(body: impl FnOnce() -> T) -> Option<T> {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    match outcome {
        Ok(value) => Some(value),
        Err(payload) if payload.is::<Killed>() => {
            let is_over = with(|world, _| world.lock().is_over).unwrap_or(true);
            if is_over {
                resume_unwind(payload);
            }
            None
        }
        Err(payload) => resume_unwind(payload),
    }
}

fn with<T>(act: impl FnOnce(&World, usize) -> T) -> Option<T> {
    let here = HERE.with_borrow(Clone::clone)?;
    Some(act(&here.0, here.1))
}

/// Makes a call for the process of this thread. None: it is not simulated. What is killed unwinds, and its calls do nothing.
fn call<T>(act: impl FnOnce(&mut State) -> io::Result<T>) -> Option<io::Result<T>> {
    with(|world, process| if std::thread::panicking() { error(EIO) } else { act(&mut world.step(process)) })
}

/// As [`call`], where nobody else goes on.
fn look<T>(act: impl FnOnce(&mut State) -> T) -> Option<T> {
    with(|world, process| {
        let mut state = world.lock();
        debug_assert!(state.is_over || std::thread::panicking() || state.running == process);
        act(&mut state)
    })
}

/// True when this thread is a simulated process.
pub(crate) fn is_here() -> bool {
    HERE.with_borrow(Option::is_some)
}

pub(crate) fn uptime() -> Option<Duration> {
    with(|world, process| {
        let state = world.lock();
        state.now + state.machines[state.processes[process].machine].ahead
    })
}

pub(crate) fn machine_name() -> Option<String> {
    with(|world, process| format!("machine-{}", world.lock().processes[process].machine))
}

pub(crate) fn random_uuid() -> Option<uuid::Uuid> {
    look(|state| uuid::Uuid::from_u64_pair(state.random.next(), state.random.next()))
}

/// The time for all machines, in nanoseconds.
pub(crate) fn now() -> u64 {
    with(|world, _| world.lock().now.as_nanos() as u64).unwrap_or_default()
}

/// Sleeps. False: the thread is not simulated. Who waits for a lock waits longer than it asked to, so that runs stay short.
pub(crate) fn pause(duration: Duration) -> bool {
    let paused = call(|state| {
        let is_short = duration < Duration::from_millis(1);
        let duration = if is_short { Duration::from_millis(state.random.below(3000)) } else { duration };
        let process = state.running;
        state.processes[process].wakes_at = state.now + duration;
        Ok(())
    });
    // Others go on at the next call.
    paused.is_some()
}
