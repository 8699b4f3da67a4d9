//! The process's Redis server, for Clustered databases. Standalone ones do not need one.

use std::ffi::c_char;
use std::sync::Arc;

use stores::{Coordinator, Error, ErrorCode, Result};

use crate::strings::{input, invalid, terminated};
use crate::{boundary, process};

fn open(uri: &str) -> Result<()> {
    process::current().redis.open(uri).map_err(redis_error)
}

fn redis_error(error: cluster::Error) -> Error {
    Error::new(ErrorCode::Redis, error.to_string())
}

fn close() {
    process::current().redis.close();
}

/// For a Clustered database that is being opened: the server opened last, or the one where it is by default.
pub(crate) fn coordinator() -> Result<Arc<dyn Coordinator>> {
    let redis = &process::current().redis;
    redis.open_default().map_err(redis_error)?;
    Ok(Arc::<cluster::Redis>::clone(redis))
}

/// Connects this process to a Redis server, redis://[user:password@]host[:port][/database] (rediss:// for TLS), in place of the
/// one before. A Clustered database that is opened without one looks for it at redis://localhost:6379.
/// A server that cannot be reached within 2 seconds or does not answer: SOP_ERROR_CODE_REDIS.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_redis_open(uri: *const c_char, uri_len: usize) -> i32 {
    boundary::code(|| {
        // SAFETY: the caller's part, see the crate's documentation.
        open(unsafe { input("uri", uri, uri_len) }?)
    })
}

/// Closes the Redis connection, if there is one: databases that are open go on without.
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
    use std::time::{Duration, Instant};

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
