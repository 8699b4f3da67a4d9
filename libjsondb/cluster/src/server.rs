//! One Redis server: a few connections, short waits, and a rest when it does not answer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::{Client, Cmd, Connection, RedisError, RedisResult, Value};

use crate::address::{self, Error};

/// At opening a server is waited for so long.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// A connection over TLS takes about so many times as long: certificates are read, keys exchanged.
const HANDSHAKE: u32 = 10;
/// One that did not answer is left alone for so long.
const REST: Duration = Duration::from_secs(1);
/// More connections are made when they are needed, and closed again.
const IDLE_MAX: usize = 8;

/// Gets an answer.
type Hear = Box<dyn FnOnce(Value) + Send>;

/// A connection, and who gets the answer that nobody has waited for yet.
struct Link {
    connection: Connection,
    owed: Option<Hear>,
}

impl Link {
    fn new(connection: Connection) -> Link {
        Link { connection, owed: None }
    }

    /// Reads the answer that is owed: answers come in the order of the questions.
    fn settle(&mut self) -> RedisResult<()> {
        if let Some(hear) = self.owed.take() {
            hear(self.connection.recv_response()?);
        }
        Ok(())
    }
}

pub(crate) struct Server {
    client: Client,
    idle: Mutex<Vec<Link>>,
    /// It did not answer: nobody asks it before this.
    resting: Mutex<Option<Instant>>,
    /// Of the process that opened it. A forked child shares the connections' other ends, so it uses none.
    generation: u32,
    answer_within: Duration,
    connect_within: Duration,
}

impl Server {
    /// Connects, and asks for an answer.
    pub(crate) fn open(address: &str, answer_within: Duration) -> Result<Server, Error> {
        let info = address::parse(address)?;
        let name = info.addr().to_string();
        let connect_within = answer_within * if address::is_encrypted(&info) { HANDSHAKE } else { 1 };
        let connected = Client::open(info).and_then(|client| {
            let mut connection = client.get_connection_with_timeout(CONNECT_WITHIN)?;
            set_timeout(&connection, CONNECT_WITHIN)?;
            redis::cmd("PING").exec(&mut connection)?;
            Ok((client, connection))
        });
        let unreachable = |error: RedisError| Error::Unreachable { server: name, reason: error.to_string() };
        let (client, connection) = connected.map_err(unreachable)?;
        let generation = engine::process_generation();
        let (idle, resting) = (Mutex::new(vec![Link::new(connection)]), Mutex::default());
        Ok(Server { client, idle, resting, generation, answer_within, connect_within })
    }

    /// True in a child of the process that opened it.
    pub(crate) fn is_inherited(&self) -> bool {
        self.generation != engine::process_generation()
    }

    /// The answer to a question that may be asked twice; None when there is none in time, or the server rests.
    pub(crate) fn ask<T>(&self, question: impl Fn(&mut Connection) -> RedisResult<T>) -> Option<T> {
        self.ask_and_wait(Duration::ZERO, question)
    }

    /// As [`Server::ask`], a question that the server itself may wait with.
    pub(crate) fn ask_and_wait<T>(
        &self,
        wait: Duration,
        question: impl Fn(&mut Connection) -> RedisResult<T>,
    ) -> Option<T> {
        self.with_link(|link| {
            set_timeout(&link.connection, self.answer_within + wait)?;
            link.settle()?;
            question(&mut link.connection)
        })
    }

    /// Asks what may be asked twice, and does not wait: `hear` gets the answer, if there is one, before the connection is used again.
    pub(crate) fn tell(&self, command: &Cmd, hear: impl FnOnce(Value) + Clone + Send + 'static) {
        let command = command.get_packed_command();
        self.with_link(|link| {
            set_timeout(&link.connection, self.answer_within)?;
            link.settle()?;
            link.connection.send_packed_command(&command)?;
            link.owed = Some(Box::new(hear.clone()));
            Ok(())
        });
    }

    fn with_link<T>(&self, work: impl Fn(&mut Link) -> RedisResult<T>) -> Option<T> {
        if self.is_inherited() || self.is_resting() {
            return None;
        }
        let idle = self.lock_idle().pop();
        let was_idle = idle.is_some();
        let connect = || self.client.get_connection_with_timeout(self.connect_within).map(Link::new);
        let work = |link| self.work_over(link, &work);
        let mut done = idle.map_or_else(connect, Ok).and_then(work);
        if was_idle && done.as_ref().is_err_and(RedisError::is_connection_dropped) {
            // It was started anew: what was connected before is of no use.
            self.lock_idle().clear();
            done = connect().and_then(work);
        }
        *self.lock_resting() = done.is_err().then(|| Instant::now() + REST);
        done.ok()
    }

    fn work_over<T>(&self, mut link: Link, work: impl Fn(&mut Link) -> RedisResult<T>) -> RedisResult<T> {
        let done = work(&mut link)?;
        let mut idle = self.lock_idle();
        if idle.len() < IDLE_MAX {
            idle.push(link);
        }
        Ok(done)
    }

    /// When the rest is over, one thread tries; the others go on without until it has an answer.
    fn is_resting(&self) -> bool {
        let mut resting = self.lock_resting();
        let now = Instant::now();
        match *resting {
            Some(until) if now < until => true,
            Some(_) => {
                *resting = Some(now + REST);
                false
            }
            None => false,
        }
    }

    fn lock_idle(&self) -> MutexGuard<'_, Vec<Link>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_resting(&self) -> MutexGuard<'_, Option<Instant>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn set_timeout(connection: &Connection, timeout: Duration) -> RedisResult<()> {
    connection.set_read_timeout(Some(timeout))?;
    connection.set_write_timeout(Some(timeout))
}
