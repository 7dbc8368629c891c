//! What is spoken on a connection beneath which there may be TLS.

/// What is spoken on a listener, told to clients in the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, and gRPC on it.
    Http2,
}
