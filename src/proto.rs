//! The messages and services of `proto/`, as generated at build time.
//!
//! What they mean is written in the `.proto` files. Only adapters, the front and the command line touch them: the
//! core has types of its own.

/// Package `pairdb.v1`.
#[allow(
    missing_docs,
    rustdoc::all,
    clippy::all,
    clippy::pedantic,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("pairdb.v1");
}

/// The standard health service.
pub mod health {
    /// Package `grpc.health.v1`.
    #[allow(missing_docs, rustdoc::all, clippy::all, clippy::pedantic)]
    pub mod v1 {
        tonic::include_proto!("grpc.health.v1");
    }
}

/// The compiled descriptors of every file in `proto/`, for server reflection.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("pairdb_descriptor");
