//! A listener under clients that do nothing, do it slowly, or don't take what they asked for; and honest ones beside
//! them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tower::service_fn;

use super::*;
use crate::adapters::tls::Listener;

/// Long enough for whatever is to happen.
const LONG: Duration = Duration::from_secs(60);

const MANNERS: Manners = Manners {
    is_probe: |path| path == "/health",
    streams: |_| false,
    busy: || Response::new(Bytes::from_static(b"busy")),
};

fn bounds(max: usize) -> Bounds {
    Bounds {
        name: "test",
        places: PlaceBounds {
            max,
            of_peer_max: max,
            spare_max: 1,
        },
        patience: Patience {
            first_request: Duration::from_millis(200),
            idle: Duration::from_millis(200),
            reply: Duration::from_millis(200),
        },
        http2: None,
    }
}

/// Answers as many bytes as the path says, or never.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().trim_start_matches('/');
    if path == "never" {
        std::future::pending::<()>().await;
    }
    let bytes = vec![b'x'; path.parse().unwrap_or(2)];
    Ok(Response::new(Full::new(bytes.into())))
}

async fn start(bounds: Bounds) -> (SocketAddr, oneshot::Sender<()>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    let listener = Listener::from(socket);
    let budget = Budget::unlimited();
    tokio::spawn(serve(
        listener,
        bounds,
        MANNERS,
        budget,
        service_fn(answer),
        stopped,
    ));
    (address, stop)
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

async fn ask(stream: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// All that comes until the connection ends.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _reset = timeout(LONG, stream.read_to_end(&mut bytes)).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

/// What comes next.
async fn next(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 4096];
    let read = timeout(LONG, stream.read(&mut bytes))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8(bytes[..read].to_vec()).unwrap()
}

#[tokio::test]
async fn who_says_nothing_is_not_kept_and_neither_is_who_has_nothing_to_do() {
    let (address, _stop) = start(bounds(10)).await;
    let mut silent = connect(address).await;
    let mut idle = connect(address).await;
    ask(&mut idle, "/2").await;
    assert!(rest(&mut idle).await.ends_with("\r\n\r\nxx"));
    assert_eq!(rest(&mut silent).await, "");
}

#[tokio::test]
async fn honest_clients_are_served_whoever_is_silent() {
    let mut bounds = bounds(4);
    bounds.patience = Patience {
        first_request: LONG,
        idle: LONG,
        reply: LONG,
    };
    let (address, _stop) = start(bounds).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(connect(address).await);
    }
    let mut honest = connect(address).await;
    ask(&mut honest, "/2").await;
    assert!(next(&mut honest).await.ends_with("xx"));
    assert_eq!(rest(&mut silent[0]).await, "", "it gave way");
}

#[tokio::test]
async fn where_all_are_at_work_probes_are_answered_all_the_same() {
    let mut bounds = bounds(2);
    bounds.patience.idle = LONG;
    bounds.patience.first_request = LONG;
    let (address, _stop) = start(bounds).await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(address).await;
        ask(&mut stream, "/never").await;
        busy.push(stream);
    }
    // Whether those have begun is not told; who comes too early gets a place, and is told to close when they have.
    for path in ["/health", "/2", "/health"] {
        let answered = async {
            loop {
                let mut client = connect(address).await;
                ask(&mut client, path).await;
                let said = next(&mut client).await;
                let expected = if path == "/health" { "xx" } else { "busy" };
                if said.ends_with(expected) {
                    return;
                }
            }
        };
        timeout(LONG, answered).await.unwrap();
    }
}

#[tokio::test]
async fn who_does_not_take_its_reply_loses_the_connection() {
    let (address, stop) = start(bounds(10)).await;
    let mut greedy = connect(address).await;
    // More than any socket's buffers.
    ask(&mut greedy, "/100000000").await;
    // Only time can tell that nothing is taken: more than the reply may have.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut read = 0;
    let mut bytes = vec![0; 1 << 20];
    while let Ok(some @ 1..) = timeout(LONG, greedy.read(&mut bytes)).await.unwrap() {
        read += some;
    }
    assert!(read < 100_000_000, "{read}");
    drop(stop);
}
