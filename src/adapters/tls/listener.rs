//! A socket that is listened on, with TLS or without, and the connections that come of it.
//!
//! No more than so many connections at once, handshakes included; further ones wait in the socket's backlog. Handshakes run
//! beside each other, each in a task of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};

use super::connection::Connection;
use super::handshake::handshake;
use super::sections::ServerTls;

/// The pause when nothing can be accepted, as without file descriptors.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// What is spoken on a listener, told to clients in the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, and gRPC on it.
    Http2,
}

/// A socket that is listened on.
pub struct Listener {
    socket: TcpListener,
    tls: Option<ServerTls>,
}

impl From<TcpListener> for Listener {
    /// Without TLS.
    fn from(socket: TcpListener) -> Self {
        Self { socket, tls: None }
    }
}

/// A connection's place among those that there may be.
type Place = OwnedSemaphorePermit;

enum Event {
    Accepted(io::Result<(TcpStream, Place)>),
    HandshakeEnded(Result<Option<Connection>, JoinError>),
}

impl Listener {
    /// With TLS, if it is on.
    #[must_use]
    pub const fn new(socket: TcpListener, tls: Option<ServerTls>) -> Self {
        Self { socket, tls }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The connections, at most `max` at once. An error is one client's trouble, or passes: go on after it.
    pub fn connections(
        self,
        max: usize,
        protocol: Protocol,
    ) -> impl Stream<Item = io::Result<Connection>> + Send {
        let Self { socket, tls } = self;
        let places = Arc::new(Semaphore::new(max));
        let handshakes_max = tls.as_ref().map_or(1, |tls| tls.handshakes_max.max(1));
        let mut handshakes = JoinSet::new();
        async_stream::stream! {
            loop {
                let event = tokio::select! {
                    biased;
                    Some(ended) = handshakes.join_next(), if !handshakes.is_empty() => {
                        Event::HandshakeEnded(ended)
                    }
                    accepted = accept(&socket, &places), if handshakes.len() < handshakes_max => {
                        Event::Accepted(accepted)
                    }
                };
                match (event, &tls) {
                    (Event::Accepted(Ok((stream, place))), None) => {
                        yield Ok(Connection::plain(stream, place));
                    }
                    (Event::Accepted(Ok((stream, place))), Some(tls)) => {
                        let (config, longest) = (tls.config(protocol), tls.handshake_timeout);
                        handshakes.spawn(async move {
                            let stream = handshake(stream, config, longest).await?;
                            Some(Connection::secure(stream, place))
                        });
                    }
                    (Event::Accepted(Err(error)), _) => {
                        tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                        yield Err(error);
                    }
                    (Event::HandshakeEnded(Ok(Some(connection))), _) => yield Ok(connection),
                    (Event::HandshakeEnded(Ok(None)), _) => {}
                    (Event::HandshakeEnded(Err(error)), _) => {
                        tracing::error!(%error, "a handshake panicked");
                    }
                }
            }
        }
    }
}

/// The next connection, when there is a place for it. Nothing is lost when it is given up waiting.
async fn accept(socket: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, Place)> {
    let place = Arc::clone(places).acquire_owned().await;
    let place = place.map_err(io::Error::other)?;
    let (stream, _) = socket.accept().await?;
    let _best_effort = stream.set_nodelay(true);
    Ok((stream, place))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_connection_gets_a_place_when_another_leaves() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut connections = pin!(Listener::from(listener).connections(1, Protocol::Http2));
        let _clients = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];
        let first = connections.next().await.unwrap().unwrap();
        let second = tokio::time::timeout(Duration::from_millis(50), connections.next()).await;
        assert!(second.is_err(), "there is one place only");
        drop(first);
        assert!(connections.next().await.unwrap().is_ok());
    }
}
