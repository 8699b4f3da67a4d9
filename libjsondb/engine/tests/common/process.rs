//! Child processes of a campaign: the test binary starts itself as a worker.

#![allow(dead_code)] // No campaign needs everything.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

const TASK: &str = "SOP_TEST_WORKER";
/// Begins a line that a worker says, among the lines that the test harness prints.
const SAID: &str = "said: ";

/// A running worker. Killed when it is dropped: a campaign that fails leaves none behind.
pub struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    /// Starts this test binary anew; there its test `worker` finds the words by [`task`].
    pub fn start(words: &[&str]) -> Worker {
        Worker::start_test("worker", words)
    }

    /// As [`Worker::start`], where the test has this name.
    pub fn start_test(test: &str, words: &[&str]) -> Worker {
        Worker::start_by(Command::new(std::env::current_exe().unwrap()), test, words)
    }

    /// As [`Worker::start_test`], by a command that runs this test binary.
    pub fn start_by(mut command: Command, test: &str, words: &[&str]) -> Worker {
        let mut child = command
            .args(["--exact", test, "--nocapture"])
            .env(TASK, words.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Worker { child, input, output }
    }

    pub fn signal(&self, signal: i32) {
        let id = i32::try_from(self.child.id()).unwrap();
        // SAFETY: sends a signal and touches no memory; the id is our own child's until we wait for it.
        assert_eq!(unsafe { libc::kill(id, signal) }, 0);
    }

    /// kill -9, and waits until nothing of it runs any more.
    pub fn kill(&mut self) {
        assert_eq!(self.ended(), None, "a worker ended by itself");
        self.signal(libc::SIGKILL);
        self.child.wait().unwrap();
    }

    /// How it ended, once it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Writes a line to it.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits for the next line that it says.
    pub fn hear(&mut self) -> String {
        loop {
            let line = self.output.next().expect("the worker ended").unwrap();
            if let Some(said) = line.strip_prefix(SAID) {
                return said.to_owned();
            }
        }
    }

    /// Tells it to end.
    pub fn end(&mut self) {
        drop(self.input.take());
    }

    /// Tells it to end, and waits until it ended well.
    pub fn finish(mut self) {
        self.end();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a worker: the words it was started with. None in a run of the tests.
pub fn task() -> Option<Vec<String>> {
    let words = std::env::var(TASK).ok()?;
    Some(words.split('\n').map(str::to_owned).collect())
}

/// In a worker: says a line to the campaign.
pub fn say(line: &str) {
    // The test harness may have begun a line of its own.
    println!("\n{SAID}{line}");
}

/// In a worker: waits for the next line of the campaign.
pub fn hear() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// In a worker: what it does once the campaign tells it to end, or is gone itself.
pub fn when_told_to_end(end: impl FnOnce() + Send + 'static) {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        end();
    });
}

/// In a worker, held by each thread: one that panics takes its process along, and so the campaign.
pub struct EndWithProcess;

impl Drop for EndWithProcess {
    fn drop(&mut self) {
        std::process::exit(1);
    }
}
