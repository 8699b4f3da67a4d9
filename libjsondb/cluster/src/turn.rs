//! Turns with a hot key among processes: a queue in Redis, first come, first served.
//!
//! A turn that is not given back ends with its lease; then it is the next one's in the queue. When the server forgets all, two may
//! have a turn at a time: one of them loses, as without turns.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Connection, RedisResult};

use crate::hot::{Attempt, HOT_FOR, HotKey};
use crate::server::Server;
use crate::{name, random_u64};

/// A turn is waited for no longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// Whoever keeps a turn for longer loses it.
pub(crate) const LEASE: Duration = Duration::from_secs(1);
/// Who waits looks so often whether it is still wanted, and whether the turn has come without a call.
const CALLED_WITHIN: Duration = Duration::from_millis(100);
/// A queue that nobody joins for so long, or a call that nobody hears, is forgotten.
const FORGOTTEN_MS: u64 = 10_000;

/// Gives 1 when the turn is the token's. Else the token queues up, if it is to. A key that was lost, or is waited for, is hot for others as
/// well.
const TAKE: &str = "
local holder, queue, hot = KEYS[1], KEYS[2], KEYS[3]
local token, lease, forgotten = ARGV[1], ARGV[2], ARGV[3]
local queues_up, was_lost, key, hot_for, wake = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local current = redis.call('GET', holder)
if not current then
  current = redis.call('LPOP', queue) or token
  redis.call('SET', holder, current, 'PX', lease)
  if current ~= token then
    redis.call('RPUSH', wake .. current, 1)
    redis.call('PEXPIRE', wake .. current, forgotten)
  end
end
if current ~= token and queues_up == '1' then
  redis.call('RPUSH', queue, token)
  redis.call('PEXPIRE', queue, forgotten)
end
if current ~= token or was_lost == '1' then
  local now = redis.call('TIME')[1] * 1000
  redis.call('ZADD', hot, now + hot_for, key)
  redis.call('ZREMRANGEBYSCORE', hot, '-inf', now)
  redis.call('PEXPIRE', hot, forgotten)
end
return current == token and 1 or 0";

/// Gives the token's turn to the next one, or takes the token out of the queue.
const GIVE_BACK: &str = "
local holder, queue = KEYS[1], KEYS[2]
local token, lease, forgotten, wake = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('GET', holder) ~= token then return redis.call('LREM', queue, 0, token) end
local next = redis.call('LPOP', queue)
if not next then return redis.call('DEL', holder) end
redis.call('SET', holder, next, 'PX', lease)
redis.call('RPUSH', wake .. next, 1)
return redis.call('PEXPIRE', wake .. next, forgotten)";

/// A turn, or a place in the queue for one. Given back when it is dropped.
pub(crate) struct RedisTurn {
    server: Arc<Server>,
    key: HotKey,
    token: String,
}

/// Waits for a turn. None when it takes too long, or the server does not answer.
pub(crate) fn wait(
    server: &Arc<Server>,
    key: HotKey,
    attempt: Attempt,
    deadline: Instant,
    is_wanted: &dyn Fn() -> bool,
) -> Option<RedisTurn> {
    let token = format!("{:016x}", random_u64());
    let turn = RedisTurn { server: Arc::clone(server), key, token };
    let mut is_mine = turn.take(true, attempt.has_lost)?;
    while !is_mine {
        if Instant::now() >= deadline || !is_wanted() {
            return None;
        }
        is_mine = turn.is_called()? || turn.take(false, false)?;
    }
    Some(turn)
}

fn lease_ms() -> u64 {
    LEASE.as_millis() as u64
}

impl RedisTurn {
    fn take(&self, queues_up: bool, was_lost: bool) -> Option<bool> {
        let (database, hash) = self.key;
        let hot_for = HOT_FOR.as_millis() as u64;
        self.server.ask(|connection| {
            let mut command = redis::cmd("EVAL");
            command.arg(TAKE).arg(3).arg(self.names()).arg(name(database, "hot"));
            command.arg((&self.token, lease_ms(), FORGOTTEN_MS, u8::from(queues_up), u8::from(was_lost)));
            command.arg((hash, hot_for, self.wake("")));
            command.query(connection)
        })
    }

    /// Waits for a while to be called.
    fn is_called(&self) -> Option<bool> {
        let called = |connection: &mut Connection| -> RedisResult<Option<(String, u8)>> {
            let wait = CALLED_WITHIN.as_secs_f64();
            redis::cmd("BLPOP").arg(self.wake(&self.token)).arg(wait).query(connection)
        };
        self.server.ask_and_wait(CALLED_WITHIN, called).map(|called| called.is_some())
    }

    /// Who has the turn, and who waits for it.
    fn names(&self) -> (String, String) {
        let (database, hash) = self.key;
        (name(database, format_args!("turn:{hash:016x}")), name(database, format_args!("queue:{hash:016x}")))
    }

    fn wake(&self, token: &str) -> String {
        name(self.key.0, format_args!("wake:{token}"))
    }
}

impl Drop for RedisTurn {
    fn drop(&mut self) {
        // Else the lease ends it.
        let _: Option<i64> = self.server.ask(|connection| {
            let arguments = (&self.token, lease_ms(), FORGOTTEN_MS, self.wake(""));
            redis::cmd("EVAL").arg(GIVE_BACK).arg(2).arg(self.names()).arg(arguments).query(connection)
        });
    }
}
