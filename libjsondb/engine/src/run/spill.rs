//! Writing runs beside the transaction: a thread takes full write sets and encodes, compresses and writes them while the next one is
//! filled.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::{Run, RunWriter, Written};
use crate::os;
use crate::segment::Segments;
use crate::write_set::WriteSet;
use crate::{Error, ErrorKind, Result};

/// Write sets that wait for the thread, beside the one it is writing and the one that is being filled.
const WAITING_MAX: usize = 1;

enum Job {
    Add(WriteSet),
    /// Answered once all that was added is readable.
    Settle(SyncSender<Result<Vec<Arc<Run>>>>),
    /// Answered once all is durable.
    Finish(SyncSender<Result<Written>>),
}

/// First and last key.
type KeyRange = (Box<[u8]>, Box<[u8]>);

/// Full write sets of one transaction, on their way to runs. Dropped, it removes what was written.
pub(crate) struct Spill {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    generation: u32,
    /// Readable runs, oldest first.
    runs: Vec<Arc<Run>>,
    /// First and last key of what was added since.
    unsettled: Vec<KeyRange>,
    /// Last key of the write set added last.
    last: Box<[u8]>,
}

impl Spill {
    pub(crate) fn start(segments: &Arc<Segments>) -> Result<Spill> {
        let (jobs, queue) = sync_channel(WAITING_MAX);
        let writer = RunWriter::new(segments);
        let thread = std::thread::Builder::new()
            .name("sop-spill".to_owned())
            .spawn(move || work(writer, &queue))
            .map_err(|error| {
                Error::new(ErrorKind::Exhausted, format!("no thread can be started: {error}"))
            })?;
        Ok(Spill {
            jobs: Some(jobs),
            thread: Some(thread),
            generation: os::process_generation(),
            runs: Vec::new(),
            unsettled: Vec::new(),
            last: Box::default(),
        })
    }

    /// True when a write set that begins with this key goes on in the run of the one before.
    pub(crate) fn goes_on_with(&self, first: &[u8]) -> bool {
        first > &*self.last
    }

    /// Hands over a write set, newer than those before; waits while the thread is behind.
    pub(crate) fn add(&mut self, writes: WriteSet) -> Result<()> {
        if let (Some(first), Some(last)) = (writes.first_key(), writes.last_key()) {
            self.unsettled.push((first.into(), last.into()));
            self.last = last.into();
            self.send(Job::Add(writes))?;
        }
        Ok(())
    }

    /// False when the keys from `first` to `last` (None: to the end) are still being written.
    pub(crate) fn is_readable(&self, first: &[u8], last: Option<&[u8]>) -> bool {
        let mut unsettled = self.unsettled.iter();
        !unsettled.any(|(low, high)| **high >= *first && last.is_none_or(|last| **low <= *last))
    }

    /// The runs, oldest first: all those with keys from `first` to `last` (None: to the end) are among them.
    pub(crate) fn runs(&mut self, first: &[u8], last: Option<&[u8]>) -> Result<&[Arc<Run>]> {
        if !self.is_readable(first, last) {
            self.runs = self.ask(Job::Settle)?;
            self.unsettled.clear();
        }
        Ok(&self.runs)
    }

    /// Makes everything durable.
    pub(crate) fn finish(self) -> Result<Written> {
        self.ask(Job::Finish)
    }

    fn ask<T>(&self, job: impl FnOnce(SyncSender<Result<T>>) -> Job) -> Result<T> {
        let (answer, answered) = sync_channel(1);
        self.send(job(answer))?;
        answered.recv().map_err(|_| ended())?
    }

    fn send(&self, job: Job) -> Result<()> {
        self.jobs.as_ref().ok_or_else(ended)?.send(job).map_err(|_| ended())
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        if self.generation != os::process_generation() {
            // The thread is the parent's, and so are the channel's locks.
            std::mem::forget((self.jobs.take(), self.thread.take()));
            return;
        }
        // Without a sender the thread ends, and with it what it has written.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was answered as an error.
            let _ = thread.join();
            // What it had of the write sets is as much as a memory limit allows.
            os::give_memory_back();
        }
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Internal, "the thread that writes large transactions ended")
}

/// The first error answers everything that follows.
fn work(mut writer: RunWriter, queue: &Receiver<Job>) {
    let mut failed: Option<Error> = None;
    while let Ok(job) = queue.recv() {
        // The asker may have given up.
        match (job, &failed) {
            (Job::Add(writes), None) => failed = writer.add(&writes).err(),
            (Job::Add(_), Some(_)) => {}
            (Job::Settle(answer), Some(error)) => drop(answer.send(Err(error.clone()))),
            (Job::Settle(answer), None) => {
                let settled = writer.settle();
                failed = settled.as_ref().err().cloned();
                let _ = answer.send(settled);
            }
            (Job::Finish(answer), Some(error)) => drop(answer.send(Err(error.clone()))),
            (Job::Finish(answer), None) => {
                let _ = answer.send(writer.finish());
                return;
            }
        }
    }
}
