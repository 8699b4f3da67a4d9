//! A Redis server of one test's own, on a free port.

#![allow(dead_code, reason = "each test uses a part")]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::Connection;

pub struct RedisServer {
    process: Child,
    folder: tempfile::TempDir,
    port: u16,
    options: Vec<String>,
    password: &'static str,
}

impl RedisServer {
    pub fn start() -> RedisServer {
        RedisServer::start_with("", &[])
    }

    pub fn start_with(password: &'static str, options: &[&str]) -> RedisServer {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let process = spawn(&folder, port, password, &options);
        let server = RedisServer { process, folder, port, options, password };
        server.connection();
        server
    }

    pub fn url(&self) -> String {
        let user = if self.password.is_empty() { String::new() } else { format!(":{}@", self.password) };
        format!("redis://{user}127.0.0.1:{}/0", self.port)
    }

    /// Waits until the server answers.
    pub fn connection(&self) -> Connection {
        let client = redis::Client::open(self.url()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let connected = client.get_connection().and_then(|mut connection| {
                redis::cmd("PING").exec(&mut connection)?;
                Ok(connection)
            });
            match connected {
                Ok(connection) => return connection,
                Err(error) => assert!(Instant::now() < deadline, "redis-server does not start: {error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn keys(&self) -> Vec<String> {
        redis::cmd("KEYS").arg("*").query(&mut self.connection()).unwrap()
    }

    /// Waits until it was told something.
    pub fn is_used_again(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.keys().is_empty() {
            assert!(Instant::now() < deadline, "nobody tells the server anything");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn call(&self, command: &str) {
        redis::cmd(command).exec(&mut self.connection()).unwrap();
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// With what was saved last.
    pub fn restart(&mut self) {
        self.process = spawn(&self.folder, self.port, self.password, &self.options);
        self.connection();
    }

    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(folder: &tempfile::TempDir, port: u16, password: &str, options: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--save", "", "--port", &port.to_string(), "--requirepass", password]).args(options);
    command.arg("--dir").arg(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("redis-server is missing: apt-get install redis-server")
}
