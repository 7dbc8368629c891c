//! TLS for listeners and for connections to storage nodes; and listeners without it, so that there is one kind of them.
//!
//! What it is: certificates and keys from files, handshakes with a deadline, and what their failures mean in words. Two
//! sections of the configuration: `tls` for listeners that clients reach, `cluster_tls` for storage nodes and for
//! whoever calls them. What this is not: it does not say who may do what; a certificate is let in or it is not.
//!
//! ```text
//! files ─ changes ─▶ Live ─ ServerTls ─ Listener ─▶ Connection ─ gRPC, HTTP
//!                      └─── ClientTls ─ connect  ─▶ gRPC to storage nodes
//! ```
//!
//! Invariants:
//! - Files that are changed are read again without a restart; what can't be used changes nothing, is logged and is
//!   counted.
//! - A key and a certificate that don't belong together are never used.
//! - A handshake ends by its deadline, so many are under way at most, and none holds up another.
//! - Where an authority for clients is given, nobody gets in without a certificate of it: each connection is checked
//!   anew, sessions are not resumed.
//! - Neither errors nor logs hold anything of a key file but its name.

mod configs;
mod connection;
mod connector;
mod error;
mod handshake;
mod listener;
mod live;
mod pem;
mod protocol;
mod sections;
mod settings;
mod trouble;
mod validity;
mod witness;

#[cfg(test)]
pub(crate) mod test_authority;
#[cfg(test)]
mod tls_test;

pub use configs::CommandFiles;
pub use connection::Connection;
pub use connector::ClientTls;
pub use error::TlsError;
pub use listener::Listener;
pub use protocol::Protocol;
pub use sections::{ClusterTls, ServerTls};
pub use settings::{ClusterTlsSettings, TlsSettings};
pub use trouble::{Trouble, trouble};
