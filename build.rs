//! Compiles `proto/` in pure Rust: neither `protoc` nor any other tool is needed.

use std::error::Error;
use std::path::PathBuf;

use prost::Message;

const FILES: [&str; 3] = [
    "grpc/health/v1/health.proto",
    "pairdb/v1/coordinator.proto",
    "pairdb/v1/storage.proto",
];

#[allow(clippy::print_stdout)] // how a build script speaks to cargo
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=migrations"); // embedded by sqlx::migrate!

    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(
        out.join("pairdb_descriptor.bin"),
        descriptors.encode_to_vec(),
    )?;

    // Values are reference-counted and cut out of the received message, never copied.
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
