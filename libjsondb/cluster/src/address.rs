//! Where a Redis server is, and what is told when it is not.

use redis::{ConnectionInfo, IntoConnectionInfo};

/// Where a server is looked for when nobody says.
pub const DEFAULT_ADDRESS: &str = "redis://localhost:6379";

/// Why there is no connection. Never names the password.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no address of a server.
    #[error(
        "cannot open a Redis connection: the address is not redis://[user:password@]host[:port][/number]: {0}"
    )]
    Address(String),
    /// Nobody answers there.
    #[error(
        "cannot open a Redis connection to {server}: {reason}. A Clustered database needs a Redis server to be opened: start one there \
         (redis-server), or name another one with Redis.open_connection(\"redis://host:port/number\")"
    )]
    Unreachable {
        /// Host and port.
        server: String,
        /// What was answered instead.
        reason: String,
    },
}

/// Takes an address apart.
pub(crate) fn parse(address: &str) -> Result<ConnectionInfo, Error> {
    if address.starts_with("rediss://") {
        let what = "rediss:// (TLS) is not built into this library: let a TLS proxy on this machine, as stunnel, listen in \
                    between, and name its redis:// address";
        return Err(Error::Address(what.to_owned()));
    }
    address.into_connection_info().map_err(|error| Error::Address(error.to_string()))
}
