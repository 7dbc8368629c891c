//! Listening, with errors that name the port and the flag that changes it.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpListener;

use super::super::exit::Failure;

/// What is to be listened on, and how a person can change it.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// What for, in an error: "gRPC", "metrics".
    pub what: &'static str,
    /// The flag that sets it.
    pub flag: &'static str,
}

/// Listens; port 0 takes a free one.
pub async fn bind(wish: Wish, host: &str, port: u16) -> Result<TcpListener, Failure> {
    let host: IpAddr = host
        .parse()
        .map_err(|_| Failure::usage(format!("{}: '{host}' is not an IP address", wish.flag)))?;
    let address = SocketAddr::new(host, port);
    TcpListener::bind(address).await.map_err(|error| {
        let Wish { what, flag } = wish;
        match error.kind() {
            ErrorKind::AddrInUse => {
                Failure::usage(format!("the {what} port {port} is taken on {host}")).hint(format!(
                    "stop what listens there, or choose another with {flag} (0 takes a free one)"
                ))
            }
            _ => Failure::usage(format!("can't listen on {address} for {what}: {error}"))
                .hint(format!("choose another address with {flag}")),
        }
    })
}

/// The address a listener has got.
pub fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener
        .local_addr()
        .map_err(|error| Failure::local(format!("a listener has no address: {error}")))
}
