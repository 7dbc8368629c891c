//! A socket that is listened on, with TLS or without, and the connections that come of it.
//!
//! Every connection has a place from the moment it is accepted, and gives way like any other while nothing was asked on
//! it. Handshakes run beside each other, each in a task of its own, so many at once. Whoever has not said a word is not
//! one of them, and when there are as many as there may be, the one that takes longest is given up for the next.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::connection::Connection;
use super::handshake::{handshake, speaks};
use super::protocol::Protocol;
use super::sections::ServerTls;
use crate::adapters::front::{Place, Places};

/// The pause when nothing can be accepted, as without file descriptors.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// How long a handshake may take in any case, whoever else waits.
const HANDSHAKE_UNDISTURBED: Duration = Duration::from_secs(1);

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

enum Event {
    Accepted(io::Result<(TcpStream, SocketAddr)>),
    Spoke(Result<Option<(TcpStream, Place)>, JoinError>),
    HandshakeEnded(Result<Option<Connection>, JoinError>),
    TooSlow,
}

/// The handshakes under way.
#[derive(Default)]
struct Handshakes {
    running: JoinSet<Option<Connection>>,
    /// When each began, the first one first; those that ended are taken out now and then.
    began: VecDeque<(Instant, AbortHandle)>,
}

impl Handshakes {
    fn start(&mut self, (stream, place): (TcpStream, Place), tls: &ServerTls, protocol: Protocol) {
        let (config, longest) = (tls.config(protocol), tls.handshake_timeout);
        let handle = self.running.spawn(async move {
            let conduct = std::sync::Arc::clone(place.conduct());
            let stream = tokio::select! {
                stream = handshake(stream, config, longest) => stream?,
                () = conduct.gave_way() => return None,
            };
            Some(Connection::secure(stream, place))
        });
        self.began.retain(|(_, handle)| !handle.is_finished());
        self.began.push_back((Instant::now(), handle));
    }

    /// When the first of them may be given up.
    fn patience_ends(&mut self) -> Instant {
        while let Some((began, handle)) = self.began.front() {
            if !handle.is_finished() {
                return *began + HANDSHAKE_UNDISTURBED;
            }
            self.began.pop_front();
        }
        Instant::now() + HANDSHAKE_UNDISTURBED
    }

    fn give_up_first(&mut self) {
        if let Some((_, handle)) = self.began.pop_front() {
            handle.abort();
        }
    }
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

    /// The connections, as many as there are places for. An error passes: go on after it.
    pub fn connections(
        self,
        places: Places,
        protocol: Protocol,
    ) -> impl Stream<Item = io::Result<Connection>> + Send {
        let Self { socket, tls } = self;
        let handshakes_max = tls.as_ref().map_or(1, |tls| tls.handshakes_max.max(1));
        let mut silent = JoinSet::new();
        let mut handshakes = Handshakes::default();
        async_stream::stream! {
            loop {
                let all_taken = handshakes.running.len() >= handshakes_max;
                let patience_ends = handshakes.patience_ends();
                let event = tokio::select! {
                    biased;
                    Some(ended) = handshakes.running.join_next(), if !handshakes.running.is_empty() => {
                        Event::HandshakeEnded(ended)
                    }
                    Some(spoke) = silent.join_next(), if !all_taken && !silent.is_empty() => {
                        Event::Spoke(spoke)
                    }
                    () = sleep_until(patience_ends), if all_taken => Event::TooSlow,
                    accepted = socket.accept() => Event::Accepted(accepted),
                };
                match (event, &tls) {
                    (Event::Accepted(Ok((stream, peer))), tls) => {
                        let _best_effort = stream.set_nodelay(true);
                        let Some(place) = places.take(Some(peer.ip())) else {
                            continue; // told of there
                        };
                        match tls {
                            None => yield Ok(Connection::plain(stream, place)),
                            Some(tls) => drop(silent.spawn(first_word(stream, place, tls.handshake_timeout))),
                        }
                    }
                    (Event::Accepted(Err(error)), _) => {
                        tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                        yield Err(error);
                    }
                    (Event::Spoke(Ok(Some(spoke))), Some(tls)) => handshakes.start(spoke, tls, protocol),
                    (Event::Spoke(Ok(_)), _) => {}
                    (Event::TooSlow, _) => handshakes.give_up_first(),
                    (Event::HandshakeEnded(Ok(Some(connection))), _) => yield Ok(connection),
                    (Event::HandshakeEnded(Ok(None)), _) => {}
                    (Event::HandshakeEnded(Err(error)) | Event::Spoke(Err(error)), _) => {
                        if error.is_panic() {
                            tracing::error!(%error, "a handshake panicked");
                        }
                    }
                }
            }
        }
    }
}

/// The connection, when its client has said something.
async fn first_word(
    stream: TcpStream,
    place: Place,
    longest: Duration,
) -> Option<(TcpStream, Place)> {
    let conduct = std::sync::Arc::clone(place.conduct());
    tokio::select! {
        speaks = speaks(&stream, longest) => speaks.then_some((stream, place)),
        () = conduct.gave_way() => None,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::StreamExt;
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn who_says_nothing_gives_way_to_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let places = Places::up_to(1);
        let mut connections =
            pin!(Listener::from(listener).connections(places.clone(), Protocol::Http2));
        let _clients = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];
        let first = connections.next().await.unwrap().unwrap();
        let second = connections.next().await.unwrap().unwrap();
        first.conduct().gave_way().await;
        assert_eq!(places.taken(), 1);
        // Who is at work does not, and then there is no place.
        let _work = second.conduct().at_work();
        let mut third = TcpStream::connect(address).await.unwrap();
        let mut byte = [0];
        let turned_away = async {
            tokio::select! {
                _ = connections.next() => panic!("there is one place only"),
                read = third.read(&mut byte) => assert!(matches!(read, Ok(0) | Err(_)), "{read:?}"),
            }
        };
        let long = Duration::from_secs(60);
        tokio::time::timeout(long, turned_away).await.unwrap();
    }
}
