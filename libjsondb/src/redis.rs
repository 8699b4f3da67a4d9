//! The process's Redis connection. Standalone databases do not need one.

use std::ffi::c_char;
use std::sync::PoisonError;
use std::time::Duration;

use redis::RedisError;
use stores::{Error, ErrorCode, Result};

use crate::strings::{input, invalid, terminated};
use crate::{boundary, process};

pub(crate) use redis::Connection;

/// How long an unreachable server is waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Connects, asks for an answer, and keeps the connection in place of the one before.
fn open(uri: &str) -> Result<()> {
    let connection = connect(uri).map_err(|error| {
        let message = format!("cannot open a Redis connection: {error}");
        Error::new(ErrorCode::Redis, message)
    })?;
    // The lock is held for the exchange only, not for the connecting or the closing.
    let before = slot().replace(connection);
    drop(before);
    Ok(())
}

fn connect(uri: &str) -> std::result::Result<Connection, RedisError> {
    let mut connection = redis::Client::open(uri)?.get_connection_with_timeout(CONNECT_TIMEOUT)?;
    connection.set_read_timeout(Some(CONNECT_TIMEOUT))?;
    connection.set_write_timeout(Some(CONNECT_TIMEOUT))?;
    redis::cmd("PING").exec(&mut connection)?;
    Ok(connection)
}

fn close() {
    let before = slot().take();
    drop(before);
}

fn slot() -> std::sync::MutexGuard<'static, Option<Connection>> {
    process::current().redis.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connects this process to a Redis server, redis://[user:password@]host[:port][/database], in place of the one before.
/// A server that cannot be reached within 2 seconds or does not answer: SOP_ERROR_CODE_REDIS.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_redis_open(uri: *const c_char, uri_len: usize) -> i32 {
    boundary::code(|| {
        // SAFETY: the caller's part, see the crate's documentation.
        open(unsafe { input("uri", uri, uri_len) }?)
    })
}

/// Closes the Redis connection, if there is one.
#[unsafe(no_mangle)]
pub extern "C" fn sop_redis_close() -> i32 {
    boundary::code(|| {
        close();
        Ok(())
    })
}

/// As sop_redis_open: NULL, or the text of an error, freed with freeString. The address ends with a zero byte.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn openRedisConnection(uri: *const c_char) -> *mut c_char {
    boundary::text(|| {
        // SAFETY: the caller's part, see the crate's documentation.
        let uri = unsafe { terminated("uri", uri) }?;
        open(uri.ok_or_else(|| invalid("uri: null pointer"))?)?;
        Ok(None)
    })
}

/// As sop_redis_close: NULL, or the text of an error, freed with freeString.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub extern "C" fn closeRedisConnection() -> *mut c_char {
    boundary::text(|| {
        close();
        Ok(None)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Instant;

    fn code(uri: &str) -> ErrorCode {
        open(uri).unwrap_err().code()
    }

    #[test]
    fn a_bad_address_is_an_error() {
        assert_eq!(code(""), ErrorCode::Redis);
        assert_eq!(code("garbage"), ErrorCode::Redis);
        assert_eq!(code("http://localhost:1"), ErrorCode::Redis);
    }

    #[test]
    fn a_server_that_is_not_there_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert_eq!(code(&format!("redis://127.0.0.1:{port}/0")), ErrorCode::Redis);
    }

    #[test]
    fn a_server_that_says_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let started = Instant::now();
        assert_eq!(code(&format!("redis://{}", listener.local_addr().unwrap())), ErrorCode::Redis);
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    /// A server that says OK to everything until its caller leaves.
    fn serve(listener: TcpListener) {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = [0; 1024];
        while let Ok(len @ 1..) = stream.read(&mut received) {
            let commands = received[..len].iter().filter(|&&byte| byte == b'*').count();
            stream.write_all("+OK\r\n".repeat(commands).as_bytes()).unwrap();
        }
    }

    #[test]
    fn a_connection_is_kept_until_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let uri = format!("redis://{}/0", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || serve(listener));
        open(&uri).unwrap();
        assert!(!server.is_finished());
        close();
        server.join().unwrap();
    }

    #[test]
    fn closing_without_a_connection_is_no_error() {
        assert_eq!(sop_redis_close(), 0);
    }
}
