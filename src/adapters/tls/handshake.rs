//! One handshake of a listener, and the goodbye to whoever does not get in.
//!
//! A client that speaks no TLS is told so in its own protocol, so that its user reads the cause instead of a broken
//! connection. Whoever is refused gets the time to read why: closing with bytes unread would take the answer back.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What a connection with TLS begins with: a record of a handshake.
const HANDSHAKE_RECORD: u8 = 22;

/// What clients without TLS are told. Commands look for it in their errors.
pub(super) const SPEAKS_TLS: &str = "this port speaks TLS only";

/// How long whoever is refused may take to close.
const GOODBYE: Duration = Duration::from_secs(1);
/// How much of what they send meanwhile is read, to no end.
const GOODBYE_BYTES_MAX: usize = 64 * 1024;

/// HTTP/2's name for a connection that is not secure enough (RFC 9113, section 7).
const INADEQUATE_SECURITY: u8 = 0xc;

/// Why somebody does not get in.
#[derive(Debug)]
enum Refused {
    /// It hung up before it said anything, as who only looks whether a port is open.
    Silent,
    /// It speaks no TLS.
    Plaintext,
    /// The handshake failed.
    Failed(io::Error),
}

/// Whether a client says anything in time, or hangs up.
pub(super) async fn speaks(stream: &TcpStream, longest: Duration) -> bool {
    let spoke = timeout(longest, stream.peek(&mut [0])).await.is_ok();
    if !spoke {
        let why = "it said nothing";
        refused(stream.peer_addr().ok(), "too_slow", why);
    }
    spoke
}

/// Lets a connection in, or says why not in the log and the metrics.
pub(super) async fn handshake(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    longest: Duration,
) -> Option<TlsStream<TcpStream>> {
    let peer = stream.peer_addr().ok();
    match timeout(longest, attempt(stream, config)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(Refused::Silent)) => {}
        Ok(Err(Refused::Plaintext)) => refused(peer, "plaintext", "it does not speak TLS"),
        Ok(Err(Refused::Failed(error))) => refused(peer, cause(&error), &error.to_string()),
        Err(_) => refused(peer, "too_slow", "the handshake took too long"),
    }
    None
}

fn refused(peer: Option<SocketAddr>, cause: &'static str, why: &str) {
    counter!("tls_handshakes_refused_total", "cause" => cause).increment(1);
    // Strangers decide how often this is: the metric is for the operator, the log for whoever looks for one of them.
    tracing::debug!(?peer, cause, why, "a connection was not let in");
}

async fn attempt(
    stream: TcpStream,
    config: Arc<ServerConfig>,
) -> Result<TlsStream<TcpStream>, Refused> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(0) => return Err(Refused::Silent),
        Ok(_) if first[0] == HANDSHAKE_RECORD => {}
        Ok(_) => {
            let _hung_up: io::Result<()> = tell_plaintext(stream).await;
            return Err(Refused::Plaintext);
        }
        Err(error) => return Err(Refused::Failed(error)),
    }
    let accepted = TlsAcceptor::from(config)
        .accept(stream)
        .into_fallible()
        .await;
    match accepted {
        Ok(stream) => Ok(stream),
        Err((error, stream)) => {
            say_goodbye(stream).await;
            Err(Refused::Failed(error))
        }
    }
}

/// Tells a client in HTTP/2 if that is what it speaks, else in HTTP/1.
async fn tell_plaintext(mut stream: TcpStream) -> io::Result<()> {
    let mut start = [0; 3];
    stream.read_exact(&mut start).await?;
    if &start == b"PRI" {
        stream.write_all(&HTTP2_HELLO).await?;
        let _asked_or_not = timeout(GOODBYE, asked(&mut stream)).await;
        stream.write_all(&http2_goodbye()).await?;
    } else {
        let told = format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n\
             {SPEAKS_TLS}: use https://\n",
            SPEAKS_TLS.len() + ": use https://\n".len()
        );
        stream.write_all(told.as_bytes()).await?;
    }
    say_goodbye(stream).await;
    Ok(())
}

/// A server's first frame: SETTINGS, without any.
const HTTP2_HELLO: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Its last one, GOAWAY, whose data is meant for people.
fn http2_goodbye() -> Vec<u8> {
    const GOAWAY: u8 = 7;
    let text = SPEAKS_TLS.as_bytes();
    let length = 8 + text.len() as u8;
    let mut frame = vec![0, 0, length, GOAWAY, 0, 0, 0, 0, 0];
    frame.extend([0, 0, 0, 0, 0, 0, 0, INADEQUATE_SECURITY]);
    frame.extend(text);
    frame
}

/// Reads until the client has asked for something. Told before that, some clients make of it that the connection
/// closed.
async fn asked(stream: &mut TcpStream) -> io::Result<()> {
    const PREFACE_BYTES: u64 = 24;
    const HEADERS: u8 = 1;
    const FRAMES_MAX: usize = 16;
    skip(stream, PREFACE_BYTES - 3).await?;
    for _ in 0..FRAMES_MAX {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        if head[3] == HEADERS {
            break;
        }
        skip(
            stream,
            u64::from(u32::from_be_bytes([0, head[0], head[1], head[2]])),
        )
        .await?;
    }
    Ok(())
}

async fn skip(stream: &mut TcpStream, bytes: u64) -> io::Result<()> {
    let mut skipped = stream.take(bytes);
    tokio::io::copy(&mut skipped, &mut tokio::io::sink()).await?;
    Ok(())
}

/// Closes when the other side has closed, or after a while.
async fn say_goodbye(mut stream: TcpStream) {
    let drain = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let (mut drained, mut bytes) = (0, [0; 1024]);
        while let Ok(read) = stream.read(&mut bytes).await
            && read > 0
            && drained < GOODBYE_BYTES_MAX
        {
            drained += read;
        }
    };
    let _closed = timeout(GOODBYE, drain).await;
}

/// A few words for the metric.
fn cause(error: &io::Error) -> &'static str {
    let inner = error.get_ref().and_then(|error| error.downcast_ref());
    match inner {
        Some(rustls::Error::NoCertificatesPresented) => "no_certificate",
        Some(rustls::Error::InvalidCertificate(_)) => "bad_certificate",
        Some(rustls::Error::AlertReceived(_)) => "refused_by_client",
        Some(_) => "failed",
        None => match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                "hung_up"
            }
            _ => "failed",
        },
    }
}
