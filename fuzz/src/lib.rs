//! What is fuzzed: `src/version`, compiled from its own source and nothing else.
//!
//! It is pure and needs three small crates, so the fuzzers build in seconds instead of instrumenting gRPC and SQLite,
//! and would no longer build should it ever come to need more.

use bytes::Bytes;

#[path = "../../src/mutant.rs"]
pub mod mutant;
#[path = "../../src/version/mod.rs"]
pub mod version;

/// A body with the checksum that fits it: what a hostile peer can send, and what a fuzzer would hardly guess.
pub fn sealed(body: &[u8]) -> Bytes {
    let mut bytes = body.to_vec();
    bytes.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    bytes.into()
}
