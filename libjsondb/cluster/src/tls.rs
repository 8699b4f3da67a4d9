//! What TLS takes: its cryptography, in Rust and its own assembler, so that no C compiler is needed.
//!
//! Servers are believed whose certificates the machine trusts; SSL_CERT_FILE names others.

use crate::address::Error;

/// Chooses the cryptography, once for the process.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) fn prepare() -> Result<(), Error> {
    if !is_supported() {
        return Err(not_here());
    }
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have been first.
        let _ = rustls_graviola::default_provider().install_default();
    }
    Ok(())
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn prepare() -> Result<(), Error> {
    Err(not_here())
}

/// Whether the processor has what graviola takes for granted.
#[cfg(target_arch = "x86_64")]
fn is_supported() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("aes") && has!("pclmulqdq") && has!("bmi1") && has!("bmi2") && has!("adx") && has!("avx2")
}

#[cfg(target_arch = "aarch64")]
fn is_supported() -> bool {
    use std::arch::is_aarch64_feature_detected as has;
    has!("neon") && has!("aes") && has!("pmull") && has!("sha2")
}

fn not_here() -> Error {
    let what = "rediss:// (TLS) does not work on this processor: let a TLS proxy on this machine, as stunnel, listen in \
                between, and name its redis:// address";
    Error::Address(what.to_owned())
}
