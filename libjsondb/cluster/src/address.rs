//! Where a Redis server is, and what is told when it is not.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use crate::tls;

/// Where a server is looked for when nobody says.
pub const DEFAULT_ADDRESS: &str = "redis://localhost:6379";

/// Why there is no connection. Never names the password.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no address of a server.
    #[error(
        "cannot open a Redis connection: the address is not redis://[user:password@]host[:port][/number], or rediss:// for TLS: {0}"
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
    let info = address.into_connection_info().map_err(|error| Error::Address(error.to_string()))?;
    if is_encrypted(&info) {
        tls::prepare()?;
    }
    Ok(info)
}

/// Whether the connection is over TLS.
pub(crate) fn is_encrypted(info: &ConnectionInfo) -> bool {
    matches!(info.addr(), ConnectionAddr::TcpTls { .. })
}
