//! The loop of a listener: connections with places, requests that are watched, an end without cutting anybody off.

use std::convert::Infallible;
use std::error::Error;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use metrics::counter;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tower::{Service, ServiceExt};

use super::budget::Budget;
use super::reply::Reply;
use crate::adapters::log_pace;
use crate::adapters::places::{Asked, Conduct, Ending, Patience, PlaceBounds, Places};
use crate::adapters::tls::{Connection, Listener, Protocol};

/// How long who is told to close may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// How much of a connection's headers is read ahead.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// How much of replies waits in one stream beyond what its client has asked for.
const SEND_BUFFER_BYTES: usize = 32 * 1024;

/// How many places are kept for probes when all others are at work.
pub const SPARE_PLACES: usize = 32;

/// The bounds of a listener.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// What it is called in metrics.
    pub name: &'static str,
    /// How many connections.
    pub places: PlaceBounds,
    /// How long they may do nothing.
    pub patience: Patience,
    /// What is spoken there.
    pub http2: Option<Http2Bounds>,
}

/// The bounds of HTTP/2.
#[derive(Clone, Copy, Debug)]
pub struct Http2Bounds {
    /// Requests of one connection.
    pub streams_max: u32,
    /// How long a client may be silent before it is pinged, and then before it is given up.
    pub keepalive: Duration,
    /// How many bytes of one stream may be under way.
    pub stream_window_bytes: u32,
    /// How many of one connection.
    pub connection_window_bytes: u32,
}

/// What the front it serves for says of paths.
#[derive(Clone, Copy)]
pub struct Manners {
    /// Whether a path is a probe's.
    pub is_probe: fn(&str) -> bool,
    /// Whether what a path answers stays open.
    pub streams: fn(&str) -> bool,
    /// What everybody else is told on a spare place.
    pub busy: fn() -> Response<Bytes>,
}

/// What the connection is to be told of a request; in its extensions.
#[derive(Clone)]
pub struct RequestConduct(Arc<Asked>);

impl RequestConduct {
    /// All of the request has come.
    pub fn is_whole(&self) {
        self.0.is_whole();
    }
}

impl Deref for RequestConduct {
    type Target = Arc<Conduct>;

    fn deref(&self) -> &Arc<Conduct> {
        self.0.conduct()
    }
}

/// Serves until `shutdown`, then finishes what is at work. Bound the wait for that outside.
pub async fn serve<S, B>(
    listener: Listener,
    bounds: Bounds,
    manners: Manners,
    budget: Budget,
    service: S,
    shutdown: impl Future<Output = ()>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    #[cfg(test)]
    let shutdown = crate::adapters::vitals::doom::mortal(bounds.name, shutdown);
    let protocol = match bounds.http2 {
        Some(_) => Protocol::Http2,
        None => Protocol::Http1,
    };
    let places = Places::new(bounds.name, bounds.places);
    let (stop, stopping) = watch::channel(());
    let mut running = JoinSet::new();
    {
        let mut connections = pin!(listener.connections(places.clone(), protocol));
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(_) = running.join_next(), if !running.is_empty() => continue,
                accepted = connections.next() => accepted,
            };
            let connection = match accepted {
                None => break,
                Some(Ok(connection)) => connection,
                Some(Err(error)) => {
                    if let Some(left_out) = log_pace::ACCEPT.tell() {
                        let listener = bounds.name;
                        tracing::warn!(listener, %error, left_out, "a connection could not be accepted");
                    }
                    continue;
                }
            };
            running.spawn(run(
                connection,
                bounds.clone(),
                manners,
                budget.clone(),
                service.clone(),
                stopping.clone(),
            ));
        }
    }
    drop(stopping);
    stop.send_replace(());
    while running.join_next().await.is_some() {}
}

async fn run<S, B>(
    connection: Connection,
    bounds: Bounds,
    manners: Manners,
    budget: Budget,
    service: S,
    stopping: watch::Receiver<()>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let conduct = Arc::clone(connection.conduct());
    let served = Served {
        service,
        manners,
        budget,
        conduct: Arc::clone(&conduct),
        peer: connection.connect_info(),
    };
    let io = TokioIo::new(connection);
    match &bounds.http2 {
        Some(http2) => {
            let connection = http2_builder(http2).serve_connection(io, served);
            watched(connection, &conduct, &bounds, stopping).await;
        }
        None => {
            let connection = http1_builder(&bounds.patience).serve_connection(io, served);
            watched(connection, &conduct, &bounds, stopping).await;
        }
    }
}

fn http2_builder(bounds: &Http2Bounds) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(bounds.streams_max)
        .keep_alive_interval(bounds.keepalive)
        .keep_alive_timeout(bounds.keepalive)
        .initial_stream_window_size(bounds.stream_window_bytes)
        .initial_connection_window_size(bounds.connection_window_bytes)
        .max_send_buf_size(SEND_BUFFER_BYTES);
    builder
}

fn http1_builder(patience: &Patience) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(patience.idle)
        .max_buf_size(HEADER_BYTES_MAX)
        .half_close(true);
    builder
}

/// Serves a connection until it ends by itself, has to, or the listener stops.
async fn watched<C: GracefulConnection>(
    connection: C,
    conduct: &Conduct,
    bounds: &Bounds,
    mut stopping: watch::Receiver<()>,
) {
    let mut connection = pin!(connection);
    let ending = tokio::select! {
        biased;
        // A client that hangs up or talks nonsense is no trouble of ours.
        _ = connection.as_mut() => return,
        ending = conduct.over(&bounds.patience) => Some(ending),
        _ = stopping.changed() => None,
    };
    connection.as_mut().graceful_shutdown();
    let Some(ending) = ending else {
        let _finished = connection.await;
        return;
    };
    counter!("listener_connections_ended_total", "listener" => bounds.name, "cause" => ending.as_str())
        .increment(1);
    if ending != Ending::ReplyNotTaken {
        let _ended = tokio::time::timeout(GOODBYE, connection).await;
    }
}

/// The service as one connection sees it.
struct Served<S> {
    service: S,
    manners: Manners,
    budget: Budget,
    conduct: Arc<Conduct>,
    peer: TcpConnectInfo,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Served<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    type Response = Response<Reply<B>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let path = request.uri().path();
        let asked = Arc::new(self.conduct.asked((self.manners.streams)(path)));
        let budget = self.budget.clone();
        if self.conduct.is_spare() && !(self.manners.is_probe)(path) {
            let answer = (self.manners.busy)();
            let answer = answer.map(|bytes| Reply::of_bytes(bytes, budget, asked));
            return Box::pin(async move { Ok(answer) });
        }
        if request.body().is_end_stream() {
            asked.is_whole();
        }
        // Who asks is found in one place, for gRPC and HTTP alike.
        request.extensions_mut().insert(self.peer.clone());
        request
            .extensions_mut()
            .insert(RequestConduct(Arc::clone(&asked)));
        let answer = self.service.clone().oneshot(request);
        Box::pin(async move {
            let answer = answer.await?;
            asked.replies();
            Ok(answer.map(|body| Reply::new(body, budget, asked)))
        })
    }
}
