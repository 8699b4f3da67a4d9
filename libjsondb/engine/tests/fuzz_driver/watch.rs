//! An input that never ends must not end the search without a trace: it is kept, and the process ends.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Inputs take milliseconds. This is no measure of speed, only of whether there is an end.
const LIMIT: Duration = Duration::from_secs(120);

/// What runs now: number, target, input.
type Running = (u64, String, Vec<u8>);

/// Looks after the inputs while it lives.
pub struct Watch {
    running: Arc<Mutex<Running>>,
    /// Dropped with the watch: that ends the thread.
    _end: Sender<()>,
}

impl Watch {
    pub fn start() -> Watch {
        let running = Arc::new(Mutex::new((0, String::new(), Vec::new())));
        let (end, ended) = channel();
        let watched = Arc::clone(&running);
        std::thread::spawn(move || {
            let mut last = None;
            while ended.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                let (number, name, input) = &*watched.lock().unwrap();
                if last.replace(*number) == Some(*number) {
                    eprintln!(
                        "target {name} does not end: its input is {}",
                        super::save(name, input).display()
                    );
                    std::process::abort();
                }
            }
        });
        Watch { running, _end: end }
    }

    pub fn begin(&self, name: &str, input: &[u8]) {
        let mut running = self.running.lock().unwrap();
        running.0 += 1;
        running.1.replace_range(.., name);
        running.2.clear();
        running.2.extend_from_slice(input);
    }
}
