//! A Redis server of the campaign's own, which is killed, stopped and emptied.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::network::{HUB, Network};

pub struct RedisServer {
    child: Child,
    host: String,
    port: u16,
    folder: tempfile::TempDir,
}

impl RedisServer {
    /// Beside the bridge of the network, if there is one.
    pub fn start(network: Option<&Network>) -> RedisServer {
        let (host, port) = match network {
            Some(_) => (HUB.to_owned(), 6379),
            None => ("127.0.0.1".to_owned(), free_port()),
        };
        let folder = tempfile::tempdir().unwrap();
        let child = spawn(network, &host, port, &folder);
        RedisServer { child, host, port, folder }
    }

    pub fn address(&self) -> String {
        format!("redis://{}:{}", self.host, self.port)
    }

    pub fn signal(&self, signal: i32) {
        let id = i32::try_from(self.child.id()).unwrap();
        // SAFETY: sends a signal and touches no memory; the id is our own child's until we wait for it.
        assert_eq!(unsafe { libc::kill(id, signal) }, 0);
    }

    /// Kills it, and starts an empty one in its place.
    pub fn replace(&mut self, network: Option<&Network>) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(network, &self.host, self.port, &self.folder);
    }

    /// Takes everything out of it.
    pub fn flush(&self) {
        let mut socket = UnixStream::connect(socket(&self.folder)).unwrap();
        socket.write_all(b"FLUSHALL\r\n").unwrap();
        let mut answer = [0; 5];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"+OK\r\n");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reached by the campaign from outside the network.
fn socket(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("socket")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn spawn(network: Option<&Network>, host: &str, port: u16, folder: &tempfile::TempDir) -> Child {
    let mut command = match network {
        Some(network) => network.hub_command("redis-server"),
        None => Command::new("redis-server"),
    };
    let _ = std::fs::remove_file(socket(folder));
    command.args(["--bind", host, "--port", &port.to_string(), "--save", "", "--protected-mode", "no"]);
    command.arg("--dir").arg(folder.path()).arg("--unixsocket").arg(socket(folder));
    let spawned = command.stdout(Stdio::null()).spawn();
    let mut child = spawned.expect("redis-server is needed: apt-get install redis-server");
    while UnixStream::connect(socket(folder)).is_err() {
        assert_eq!(child.try_wait().unwrap(), None, "redis-server ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}
