//! One storage node as the transport sees it: a connection that is kept up, and the session that runs over it.
//!
//! Calls made while the first attempt to connect is under way wait for it. After that, whatever is not connected says
//! so at once: the coordinator has other owners to ask.

use std::error::Error;
use std::io::ErrorKind;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::channel::oneshot;
use futures::{FutureExt, StreamExt, stream};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status, Streaming};

use super::assembler::Assembler;
use super::lock;
use super::session::Session;
use super::settings::{STREAM_MESSAGE_BYTES_MAX, TransportSettings, WINDOW_BYTES};
use super::wire_version::{Spoken, Unlike};
use crate::adapters::front::Budget;
use crate::adapters::log_pace;
use crate::adapters::tls::{ClientTls, trouble};
use crate::adapters::vitals::{Vitals, keep};
use crate::placement::Node;
use crate::ports::{CallError, Instant, Release};
use crate::proto::v1::ReplyBatch;
use crate::proto::v1::storage_service_client::StorageServiceClient;

/// So much is shown of a node's words.
const REFUSAL_LEN_MAX: usize = 400;

/// A storage node at one address.
pub(super) struct Peer {
    node: Node,
    settings: TransportSettings,
    tls: Option<ClientTls>,
    budget: Budget,
    link: Mutex<Link>,
}

struct Link {
    state: LinkState,
    used_at: Instant,
    task: Option<AbortHandle>,
}

enum LinkState {
    /// Takes calls: connected, or connecting for the first time.
    Up(Arc<Session>),
    /// Not connected, for this reason.
    Down(String),
    /// Given up; a new peer has to be made.
    Closed,
}

/// What is there for a call.
pub(super) enum Access {
    /// This session.
    Session(Arc<Session>),
    /// No connection.
    Down(CallError),
    /// The peer was closed; take another.
    Closed,
}

impl Peer {
    /// Starts to connect.
    pub(super) fn start(
        node: Node,
        settings: TransportSettings,
        tls: Option<ClientTls>,
        budget: Budget,
        now: Instant,
        runtime: &Handle,
    ) -> Arc<Self> {
        let session = Arc::new(Session::new(node.id.clone(), &settings, budget.clone()));
        let state = LinkState::Up(Arc::clone(&session));
        let link = Mutex::new(Link {
            state,
            used_at: now,
            task: None,
        });
        let peer = Arc::new(Self {
            node,
            settings,
            tls,
            budget,
            link,
        });
        let connected = Arc::clone(&peer).keep_connected(session);
        let task = runtime.spawn(keep(
            Vitals::process(),
            "connection to a storage node",
            connected,
        ));
        lock(&peer.link).task = Some(task.abort_handle());
        peer
    }

    /// Who and where.
    pub(super) const fn node(&self) -> &Node {
        &self.node
    }

    /// Whether it is this node at this address.
    pub(super) fn is_at(&self, node: &Node) -> bool {
        self.node.port == node.port && self.node.host == node.host && self.node.id == node.id
    }

    /// The session for a call that is made now.
    pub(super) fn access(&self, now: Instant) -> Access {
        let mut link = lock(&self.link);
        link.used_at = link.used_at.max(now);
        match &link.state {
            LinkState::Up(session) => Access::Session(Arc::clone(session)),
            LinkState::Down(why) => Access::Down(CallError::NotSent(why.clone())),
            LinkState::Closed => Access::Closed,
        }
    }

    /// Ends what is overdue.
    pub(super) fn expire(&self, now: Instant) {
        let session = match &lock(&self.link).state {
            LinkState::Up(session) => Arc::clone(session),
            LinkState::Down(_) | LinkState::Closed => return,
        };
        session.expire(now);
    }

    /// Closes it if no call was made for so long; says whether it is closed.
    pub(super) fn close_if_idle(&self, now: Instant, idle_max: Duration) -> bool {
        let mut link = lock(&self.link);
        let quiet = match &link.state {
            LinkState::Up(session) => session.is_idle(),
            LinkState::Down(_) => true,
            LinkState::Closed => return true,
        };
        let idle = quiet && now.since(link.used_at) >= idle_max;
        if idle {
            link.close("the connection was not used");
        }
        idle
    }

    /// Closes it for good.
    pub(super) fn close(&self, reason: &str) {
        lock(&self.link).close(reason);
    }

    async fn keep_connected(self: Arc<Self>, first: Arc<Session>) {
        let mut session = first;
        let mut delay = self.settings.reconnect_delay_min;
        loop {
            let mut served = false;
            // What a node answers may be anything; should it make us panic, this connection is over and no other.
            let serving = AssertUnwindSafe(self.connect_and_serve(&session, &mut served));
            let reason = serving.catch_unwind().await.unwrap_or_else(|_| {
                tracing::error!(node = %self.node.id, "a connection panicked");
                "internal error".into()
            });
            if served {
                delay = self.settings.reconnect_delay_min;
                if let Some(left_out) = log_pace::LINK.tell() {
                    tracing::warn!(node = %self.node.id, address = %self.node.address(), reason, left_out, "connection lost");
                }
            } else {
                tracing::debug!(node = %self.node.id, address = %self.node.address(), reason, "not connected");
            }
            if !self.set(LinkState::Down(reason.clone())) {
                return;
            }
            session.close(&reason);
            tokio::time::sleep(delay.mul_f64(rand::random_range(0.5..1.5))).await;
            delay = (delay * 2).min(self.settings.reconnect_delay_max);
            let (id, budget) = (self.node.id.clone(), self.budget.clone());
            session = Arc::new(Session::new(id, &self.settings, budget));
        }
    }

    /// Returns why it ended. `served` tells whether the node answered anything: only then the next pause is short
    /// again.
    async fn connect_and_serve(&self, session: &Arc<Session>, served: &mut bool) -> String {
        let connect = tokio::time::timeout(self.settings.connect_timeout, self.connect(session));
        let mut replies = match connect.await {
            Ok(Ok(replies)) => replies,
            Ok(Err(error)) => return self.in_words("can't be connected to", error.as_ref()),
            Err(_) => {
                return format!(
                    "{} does not answer within {:?}",
                    self.node.address(),
                    self.settings.connect_timeout
                );
            }
        };
        if !self.set(LinkState::Up(Arc::clone(session))) {
            return "closed".into();
        }
        let mut assembler = Assembler::new(self.settings.message_bytes_max, self.budget.clone());
        loop {
            let next = tokio::select! {
                biased;
                trouble = assembler.in_trouble() => {
                    if let Err(error) = trouble {
                        return format!("connection given up: {error}");
                    }
                    session.give_up(&mut assembler);
                    continue;
                }
                next = replies.message() => next,
            };
            match next {
                Ok(Some(batch)) => {
                    *served = true;
                    if let Err(error) = session.receive(batch, &mut assembler) {
                        return format!("connection given up: {error}");
                    }
                }
                Ok(None) => return "the node ended the connection".into(),
                Err(status) => return self.in_words("broke the connection", &status),
            }
        }
    }

    async fn connect(
        &self,
        session: &Session,
    ) -> Result<Streaming<ReplyBatch>, Box<dyn Error + Send + Sync>> {
        let scheme = match &self.tls {
            Some(_) => "https",
            None => "http",
        };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.node.address()))?
            .connect_timeout(self.settings.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(self.settings.keepalive_interval)
            .keep_alive_timeout(self.settings.keepalive_timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        let channel = match &self.tls {
            Some(tls) => {
                tls.connect(&endpoint, &self.node.host, self.node.port)
                    .await?
            }
            None => endpoint.connect().await?,
        };
        let mut client =
            StorageServiceClient::new(channel).max_decoding_message_size(STREAM_MESSAGE_BYTES_MAX);
        // Nothing leaves before it is known that the node understands it: a call that was not sent did not run.
        let (go, may_go) = oneshot::channel::<()>();
        let departures = session.departures();
        let departures = may_go.map(|go| match go {
            Ok(()) => departures.left_stream(),
            Err(oneshot::Canceled) => stream::empty().right_stream(),
        });
        let here = Spoken::here();
        let mut request = Request::new(departures.flatten_stream());
        here.tell(request.metadata_mut());
        let answer = client.exchange(request).await;
        let answer = answer.map_err(|status| refused(&self.node.address(), status))?;
        let agreed = here.agree("this process", &self.node.address(), answer.metadata())?;
        session.speak(Release::of_wire_version(agreed));
        let _gone = go.send(()); // if so, the connection is over
        Ok(answer.into_inner())
    }

    /// What went wrong, for people; all causes go to the log.
    fn in_words(&self, what: &str, error: &(dyn Error + 'static)) -> String {
        let address = self.node.address();
        tracing::debug!(node = %self.node.id, %address, error = with_causes(error), "trouble with a connection");
        let words = match error.downcast_ref() {
            Some(Unlike(words)) => Some(words.clone()),
            None => trouble(error).map(|trouble| format!("{address} {trouble}")),
        };
        if let Some(words) = words {
            // It does not pass by itself, so it is told; but not at each attempt.
            if !matches!(&lock(&self.link).state, LinkState::Down(known) if *known == words) {
                tracing::warn!(node = %self.node.id, why = words, "a storage node can't be talked to");
            }
            return words;
        }
        match io_kind(error) {
            Some(ErrorKind::ConnectionRefused) => format!("{address} refuses connections"),
            Some(ErrorKind::TimedOut) => format!("{address} does not answer"),
            Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => {
                format!("there is no way to {address}")
            }
            Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof) => {
                format!("{address} broke the connection")
            }
            _ => format!("{address} {what}"),
        }
    }

    /// Changes the state unless the peer was closed.
    fn set(&self, state: LinkState) -> bool {
        let mut link = lock(&self.link);
        let open = !matches!(link.state, LinkState::Closed);
        if open {
            link.state = state;
        }
        open
    }
}

impl Link {
    fn close(&mut self, reason: &str) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        if let LinkState::Up(session) = std::mem::replace(&mut self.state, LinkState::Closed) {
            session.close(reason);
        }
    }
}

/// Why a node takes no connection. What it says of versions is in its own words, which come over the network.
fn refused(address: &str, status: Status) -> Box<dyn Error + Send + Sync> {
    if status.code() != Code::FailedPrecondition {
        return status.into();
    }
    let words = status.message().chars().filter(|c| !c.is_control());
    let words: String = words.take(REFUSAL_LEN_MAX).collect();
    Unlike(format!("{address} refuses the connection: {words}")).into()
}

/// What the operating system said, if it is behind an error.
fn io_kind(error: &(dyn Error + 'static)) -> Option<ErrorKind> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        cause = error.source();
    }
    None
}

/// An error and what is behind it, which tonic's own words leave out.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
