//! Redis as an [`engine::Coordinator`]: it makes databases faster that several machines share, and decides nothing.
//!
//! | key, behind `sop:<database uuid>:` | holds | lives |
//! |---|---|---|
//! | `head` | the newest slot of the log | a minute |
//! | `hot` | hashes of keys that transactions met at lately | seconds |
//! | `turn:<hash>`, `queue:<hash>`, `wake:<token>` | whose turn it is with a hot key, who waits, who is called | seconds |
//! | `blob:<segment>:<offset>` | the stored bytes of a page or value | as its store's CacheConfig says |
//!
//! All of it may be lost, old or wrong at any time. A server that does not answer in time is left alone for a second.

mod address;
mod hot;
mod lines;
mod server;
mod tls;
mod turn;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use engine::{CachedBlob, Coordinator, Seq, Turn};
use redis::FromRedisValue as _;
use uuid::Uuid;

pub use address::{DEFAULT_ADDRESS, Error};
use hot::HotKeys;
use lines::Lines;
use server::Server;

/// Nobody needs the newest slot for longer: by then every machine has looked at the folder itself.
const HEAD_LIVES_MS: u64 = 60_000;
/// So many hot keys are learned at once.
const LEARNED_MAX: usize = 64;

/// Tells head and hot keys.
const LOOK: &str = "
local time = redis.call('TIME')
local hot = redis.call('ZRANGEBYSCORE', KEYS[2], time[1] * 1000, '+inf', 'LIMIT', 0, ARGV[1])
return {redis.call('GET', KEYS[1]), hot}";

/// Sets the head; tells hot keys.
const ANNOUNCE: &str = "
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
local time = redis.call('TIME')
return redis.call('ZRANGEBYSCORE', KEYS[2], time[1] * 1000, '+inf', 'LIMIT', 0, ARGV[1])";

/// A server has so long to answer, or to accept a connection, once it was connected to.
const ANSWER_WITHIN: Duration = Duration::from_millis(50);

/// The process's Redis server, if it has one, and what the process knows by itself.
pub struct Redis {
    answer_within: Duration,
    server: ArcSwapOption<Server>,
    hot: Arc<HotKeys>,
    lines: Arc<Lines>,
}

impl Default for Redis {
    fn default() -> Redis {
        Redis::answering_within(ANSWER_WITHIN)
    }
}

impl Redis {
    /// For a server that is left alone for a second when an answer takes longer than this; 50 ms by default.
    pub fn answering_within(answer_within: Duration) -> Redis {
        let (server, hot, lines) = (ArcSwapOption::empty(), Arc::default(), Arc::default());
        Redis { answer_within, server, hot, lines }
    }

    /// Connects to `redis://[user:password@]host[:port][/number]`, with `rediss://` over TLS, in place of the server before.
    pub fn open(&self, address: &str) -> Result<(), Error> {
        self.server.store(Some(Arc::new(Server::open(address, self.answer_within)?)));
        Ok(())
    }

    /// Connects to [`DEFAULT_ADDRESS`], unless a server was opened before.
    pub fn open_default(&self) -> Result<(), Error> {
        if self.server.load().is_some() { Ok(()) } else { self.open(DEFAULT_ADDRESS) }
    }

    /// Goes on without a server.
    pub fn close(&self) {
        self.server.store(None);
    }

    fn ask<T>(&self, question: impl Fn(&mut redis::Connection) -> redis::RedisResult<T>) -> Option<T> {
        self.server.load().as_ref()?.ask(question)
    }
}

impl Coordinator for Redis {
    fn head(&self, database: Uuid) -> Option<Seq> {
        let (head, hot): (Option<u64>, Vec<u64>) = self.ask(|connection| {
            let keys = (name(database, "head"), name(database, "hot"));
            redis::cmd("EVAL").arg(LOOK).arg(2).arg(keys).arg(LEARNED_MAX).query(connection)
        })?;
        self.hot.learn(database, &hot);
        head.map(Seq)
    }

    fn announce(&self, database: Uuid, slot: Seq) {
        let Some(server) = &*self.server.load() else { return };
        let keys = (name(database, "head"), name(database, "hot"));
        let mut command = redis::cmd("EVAL");
        command.arg(ANNOUNCE).arg(2).arg(keys).arg((LEARNED_MAX, slot.0, HEAD_LIVES_MS));
        // A commit does not wait for what others do with the hint.
        let hot = Arc::clone(&self.hot);
        server.tell(&command, move |answer| {
            hot.learn(database, &Vec::from_redis_value(answer).unwrap_or_default());
        });
    }

    fn note_conflict(&self, database: Uuid, key: u64) {
        self.hot.note_conflict(database, key);
    }

    fn is_hot(&self, database: Uuid, key: u64) -> bool {
        self.hot.contains(database, key)
    }

    fn queue(&self, database: Uuid, key: u64, is_wanted: &dyn Fn() -> bool) -> Option<Turn> {
        let deadline = Instant::now() + turn::PATIENCE;
        let place = self.lines.enter((database, key), turn::LEASE, deadline, is_wanted)?;
        let attempt = self.hot.begin_attempt(database, key);
        let server = self.server.load_full();
        let waited =
            server.as_ref().map(|server| turn::wait(server, (database, key), attempt, deadline, is_wanted));
        match waited.flatten() {
            Some(turn) => Some(Box::new((turn, place))),
            None => {
                attempt.back_off(deadline);
                Some(Box::new(place))
            }
        }
    }

    fn cached(&self, database: Uuid, blob: CachedBlob) -> Option<Vec<u8>> {
        let bytes: Option<Vec<u8>> =
            self.ask(|connection| redis::cmd("GET").arg(blob_name(database, blob)).query(connection))?;
        bytes
    }

    fn cache(&self, database: Uuid, blob: CachedBlob, bytes: &[u8], keep: Duration) {
        let _: Option<()> = self.ask(|connection| {
            let name = blob_name(database, blob);
            redis::cmd("SET").arg(name).arg(bytes).arg("PX").arg(milliseconds(keep)).query(connection)
        });
    }

    fn keep(&self, database: Uuid, blob: CachedBlob, keep: Duration) {
        if let Some(server) = &*self.server.load() {
            let mut command = redis::cmd("PEXPIRE");
            command.arg(blob_name(database, blob)).arg(milliseconds(keep));
            server.tell(&command, drop);
        }
    }
}

/// How Redis counts the time that something is kept.
fn milliseconds(keep: Duration) -> u64 {
    u64::try_from(keep.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// For names that must never repeat, and for chance.
fn random_u64() -> u64 {
    Uuid::new_v4().as_u64_pair().1
}

/// A key in Redis.
fn name(database: Uuid, what: impl std::fmt::Display) -> String {
    format!("sop:{database}:{what}")
}

fn blob_name(database: Uuid, blob: CachedBlob) -> String {
    let (owner, number) = blob.segment;
    name(database, format_args!("blob:{owner:016x}-{number:016x}:{}", blob.offset))
}
