//! Who is at the other end when it is no server of ours: the wrong port, or something else on the right one.
//!
//! HTTP/2 begins with the server's settings. What begins otherwise is another protocol, and most say which in their
//! first bytes. Without TLS nothing is exchanged when a connection is made, so a first question follows it, one that
//! everybody may ask: a request that changes something must not be the one that finds out. (With TLS the handshake does
//! both.)

use std::error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::exit::{Exit, Failure};
use crate::adapters::tls::trouble;
use crate::proto::health::v1::HealthCheckRequest;
use crate::proto::health::v1::health_client::HealthClient;

/// How long the first question may take. Who is slower is asked for real, with that request's own deadline.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(1);

/// How many bytes tell protocols apart: the head of an HTTP/2 frame.
const START_BYTES: usize = 9;

/// Something that is no server of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stranger {
    Http,
    Postgres,
    Redis,
    Ssh,
    Silent,
    Unknown,
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "speaks HTTP/1, not gRPC",
            Self::Postgres => "is a PostgreSQL server",
            Self::Redis => "is a Redis server",
            Self::Ssh => "is an SSH server",
            Self::Silent => "hangs up on gRPC without a word",
            Self::Unknown => "does not speak gRPC",
        })
    }
}

impl error::Error for Stranger {}

impl Stranger {
    /// By the first bytes a server sends; `None` for one that speaks HTTP/2.
    fn of(start: &[u8]) -> Option<Self> {
        match start {
            [] => Some(Self::Silent),
            [_, _, _, 4, _, 0, 0, 0, 0] => None,
            [b'H', b'T', b'T', b'P', b'/', ..] => Some(Self::Http),
            [b'S', b'S', b'H', b'-', ..] => Some(Self::Ssh),
            [b'-' | b'+', b'A'..=b'Z', b'A'..=b'Z', ..] => Some(Self::Redis),
            _ => Some(Self::Unknown),
        }
    }
}

/// What it means that a stranger is at `server`.
pub fn failure(server: &str, stranger: Stranger) -> Failure {
    let message = format!("{server} {stranger}");
    Failure::new(Exit::Unavailable, "NOT_PAIRDB", message).hint(match stranger {
        Stranger::Http => {
            "gRPC has a port of its own: coordinators' is 50051 unless configured otherwise, beside 8080 for HTTP and 9090 \
             for metrics"
        }
        _ => "name a coordinator's gRPC port, 50051 unless configured otherwise, with --server or PAIRDB_SERVER",
    })
}

/// Connects without TLS, and makes sure that whoever answers speaks gRPC.
pub async fn connect(endpoint: &Endpoint) -> Result<Channel, Box<dyn error::Error + Send + Sync>> {
    let (host, port) = address(endpoint.uri());
    let seen = Arc::new(OnceLock::new());
    let connector = {
        let (host, seen) = (host.clone(), Arc::clone(&seen));
        service_fn(move |_: Uri| {
            let (host, seen) = (host.clone(), Arc::clone(&seen));
            async move {
                let stream = TcpStream::connect((host.as_str(), port)).await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(TokioIo::new(Listening::new(stream, seen)))
            }
        })
    };
    let channel = endpoint.connect_with_connector(connector).await?;
    let mut health = HealthClient::new(channel.clone());
    let question = health.check(HealthCheckRequest::default());
    if let Ok(Err(status)) = timeout(FIRST_ANSWER_MAX, question).await {
        if let Some(trouble) = trouble(&status) {
            return Err(trouble.into());
        }
        if let Some(stranger) = seen.get().copied() {
            let stranger = match stranger {
                Stranger::Silent => unmask(&host, port).await,
                stranger => stranger,
            };
            return Err(stranger.into());
        }
    }
    Ok(channel)
}

fn address(uri: &Uri) -> (String, u16) {
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (host.to_owned(), uri.port_u16().unwrap_or(80))
}

/// Whoever hangs up on what it does not understand is asked in words that it may know.
async fn unmask(host: &str, port: u16) -> Stranger {
    const GET: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
    /// Whether PostgreSQL speaks TLS; it answers with one letter.
    const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    let stranger = Stranger::of(&answer(host, port, GET, START_BYTES).await);
    if let Some(stranger) = stranger.filter(|stranger| *stranger != Stranger::Silent) {
        return stranger;
    }
    match answer(host, port, SSL_REQUEST, 1).await[..] {
        [b'S' | b'N'] => Stranger::Postgres,
        _ => Stranger::Silent,
    }
}

/// How the answer to `question` begins: so many bytes at most, none when there is no answer.
async fn answer(host: &str, port: u16, question: &[u8], bytes: usize) -> Vec<u8> {
    let mut start = Vec::new();
    let asked = async {
        let mut stream = TcpStream::connect((host, port)).await?;
        stream.write_all(question).await?;
        while start.len() < bytes {
            start.push(stream.read_u8().await?);
        }
        Ok::<_, io::Error>(())
    };
    let _as_far_as_it_came = timeout(FIRST_ANSWER_MAX, asked).await;
    start
}

/// A stream that listens to how the other end begins.
struct Listening {
    stream: TcpStream,
    start: Vec<u8>,
    is_known: bool,
    seen: Arc<OnceLock<Stranger>>,
}

impl Listening {
    fn new(stream: TcpStream, seen: Arc<OnceLock<Stranger>>) -> Self {
        Self {
            stream,
            start: Vec::with_capacity(START_BYTES),
            is_known: false,
            seen,
        }
    }

    /// Takes in what arrived, nothing at the end of the stream.
    fn hears(&mut self, arrived: &[u8]) -> io::Result<()> {
        let lacking = START_BYTES - self.start.len();
        self.start.extend(arrived.iter().take(lacking));
        if self.start.len() < START_BYTES && !arrived.is_empty() {
            return Ok(());
        }
        self.is_known = true;
        match Stranger::of(&self.start) {
            None => Ok(()),
            Some(stranger) => {
                let _the_first_counts = self.seen.set(stranger);
                Err(io::Error::other(stranger))
            }
        }
    }
}

impl Listening {
    /// Whoever hangs up with our greeting unread breaks what is being written, and then nothing is read any more.
    fn wrote<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if !self.is_known && matches!(polled, Poll::Ready(Err(_))) {
            let _the_first_counts = self.seen.set(Stranger::Silent);
        }
        polled
    }
}

impl AsyncRead for Listening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, into);
        if self.is_known {
            return polled;
        }
        match polled {
            Poll::Ready(Ok(())) => {
                let arrived = into.filled().get(before..).unwrap_or_default().to_vec();
                Poll::Ready(self.hears(&arrived))
            }
            Poll::Ready(Err(error)) => {
                // Whoever resets the connection has not understood either.
                Poll::Ready(self.hears(&[]).and(Err(error)))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Listening {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.wrote(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A server that sends `says` to whoever has said something, and hangs up.
    async fn server(says: &'static [u8]) -> Endpoint {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                if says == b"deaf" {
                    let _ = stream.readable().await;
                    continue; // what was said stays unread, which resets the connection
                }
                let mut start = [0; 8];
                let _ = stream.read(&mut start).await;
                let is_asked_for_tls = start == [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
                let is_asked_in_http = start.starts_with(b"GET / ");
                let says = match says {
                    b"postgres" if is_asked_for_tls => &b"N"[..],
                    b"http" if is_asked_in_http => &b"HTTP/1.1 404 Not Found\r\n\r\n"[..],
                    b"postgres" | b"http" => &b""[..],
                    says => says,
                };
                let _ = stream.write_all(says).await;
                let _ = stream.shutdown().await;
                // Closed with something unread, the connection would be reset and the answer lost.
                tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await });
            }
        });
        Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap()
    }

    #[tokio::test]
    async fn strangers_are_known_by_how_they_begin() {
        for (says, stranger) in [
            (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], Stranger::Http),
            (b"-ERR unknown command 'PRI'\r\n", Stranger::Redis),
            (b"-NOAUTH Authentication required.\r\n", Stranger::Redis),
            (b"SSH-2.0-OpenSSH_9.2p1\r\n", Stranger::Ssh),
            (b"220 mail.example ESMTP\r\n", Stranger::Unknown),
            (b"hi", Stranger::Unknown),
            (b"", Stranger::Silent),
            (b"deaf", Stranger::Silent),
            (b"postgres", Stranger::Postgres),
            (b"http", Stranger::Http),
        ] {
            let endpoint = server(says).await;
            let error = connect(&endpoint).await.unwrap_err();
            let found = error.downcast_ref::<Stranger>().copied();
            assert_eq!(found, Some(stranger), "{error}");
            let failure = failure("http://db:1", stranger);
            assert_eq!(failure.exit, Exit::Unavailable, "nothing was written");
            assert!(failure.hint.is_some_and(|hint| hint.contains("50051")));
        }
    }
}
