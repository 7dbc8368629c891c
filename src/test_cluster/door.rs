//! The way into a storage node, and what goes wrong on it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, pending};

use crate::adapters::memory::MemoryTransport;
use crate::placement::{Node, NodeId};
use crate::ports::{
    CallError, Clock, Instant, Maintained, Operation, Refusal, ReplicaTransport, Reply, Request,
    RequestHandler, Spawn,
};

/// What a node does to requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Mood {
    #[default]
    Fine,
    /// It is cut off: calls to it and from it fail at once.
    Down,
    /// Nothing happens and no answer ever comes.
    Silent,
    /// Everything happens, and no answer ever comes.
    LosesAnswers,
    /// Joins come to nothing and are never answered; all else is fine.
    SilentToJoins,
    /// Everything happens after so long.
    Slow(Duration),
}

type Handler = Arc<dyn Fn(Request) -> BoxFuture<'static, Result<Reply, Refusal>> + Send + Sync>;

/// What stands between the transport and a node. Copies are one.
#[derive(Clone)]
pub(super) struct Door<C> {
    pub(super) node: Node,
    clock: C,
    mood: SharedMood,
    /// By clients' requests.
    asked: Arc<AtomicU64>,
    /// The longest page of trees or keys.
    page_max: Arc<AtomicUsize>,
    handler: Arc<Mutex<Option<Handler>>>,
}

#[derive(Clone, Default)]
pub(super) struct SharedMood(Arc<Mutex<Mood>>);

impl SharedMood {
    pub(super) fn get(&self) -> Mood {
        *locked(&self.0)
    }
}

impl<C: Clock> Door<C> {
    /// Nobody is behind it yet.
    pub(super) fn new(node: Node, clock: C) -> Self {
        Self {
            node,
            clock,
            mood: SharedMood::default(),
            asked: Arc::default(),
            page_max: Arc::new(AtomicUsize::new(usize::MAX)),
            handler: Arc::default(),
        }
    }

    /// From now on this one answers.
    pub(super) fn leads_to(&self, handler: impl RequestHandler) {
        let handler: Handler = Arc::new(move |request| Box::pin(handler.handle(request)));
        *locked(&self.handler) = Some(handler);
    }

    /// Nobody is behind it any more.
    pub(super) fn leads_nowhere(&self) {
        let handler = locked(&self.handler).take();
        drop(handler); // not under the lock: with it may go a whole node
    }

    pub(super) fn mood(&self) -> SharedMood {
        self.mood.clone()
    }

    /// Returns what it was before.
    pub(super) fn set_mood(&self, mood: Mood) -> Mood {
        std::mem::replace(&mut *locked(&self.mood.0), mood)
    }

    /// How often a client's request came here.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// From now on pages of trees and keys are no longer than this, so that few make many.
    pub(super) fn shorten_pages(&self, page_max: usize) {
        self.page_max.store(page_max, Ordering::SeqCst);
    }

    async fn answer(&self, request: Request) -> Result<Reply, Refusal> {
        let handler = locked(&self.handler).clone();
        let answer = match handler {
            Some(handler) => handler(request).await,
            None => pending().await,
        };
        match answer {
            Ok(Reply::Maintained(page)) => {
                let page_max = self.page_max.load(Ordering::SeqCst);
                Ok(Reply::Maintained(shortened(page, page_max)))
            }
            answer => answer,
        }
    }
}

impl<C: Clock> RequestHandler for Door<C> {
    fn node(&self) -> &NodeId {
        &self.node.id
    }

    fn handle(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static {
        let this = self.clone();
        async move {
            let operation = &request.operation;
            if matches!(operation, Operation::Accept(_) | Operation::Read { .. }) {
                this.asked.fetch_add(1, Ordering::SeqCst);
            }
            match this.mood.get() {
                Mood::Fine => {}
                Mood::SilentToJoins if !matches!(operation, Operation::Join { .. }) => {}
                Mood::Down | Mood::Silent | Mood::SilentToJoins => return pending().await,
                Mood::LosesAnswers => {
                    let _lost = this.answer(request).await;
                    return pending().await;
                }
                Mood::Slow(time) => this.clock.sleep(time).await,
            }
            this.answer(request).await
        }
    }
}

/// The way to all nodes, for a coordinator or for one of them.
#[derive(Clone)]
pub(crate) struct TestTransport<C, S> {
    pub(super) memory: MemoryTransport<C, S, Door<C>>,
    /// How the one who calls is, if it is a node.
    pub(super) own_mood: Option<SharedMood>,
}

impl<C: Clock, S: Spawn> ReplicaTransport for TestTransport<C, S> {
    fn call(
        &self,
        node: &Node,
        request: Request,
        deadline: Instant,
    ) -> impl Future<Output = Result<Reply, CallError>> + Send + 'static {
        let own_mood = self.own_mood.as_ref().map(SharedMood::get);
        let call = self.memory.call(node, request, deadline);
        async move {
            match own_mood {
                Some(Mood::Down) => Err(CallError::NotSent("it is cut off itself".into())),
                _ => call.await,
            }
        }
    }
}

/// The first `page_max` of a page, as a node may list fewer than it could.
fn shortened(page: Maintained, page_max: usize) -> Maintained {
    match page {
        Maintained::Roots { mut roots, .. } if roots.len() > page_max => {
            roots.truncate(page_max);
            Maintained::Roots { roots, more: true }
        }
        Maintained::Keys { mut keys, .. } if keys.len() > page_max => {
            keys.truncate(page_max);
            let more = keys.last().map(|last| last.key.clone());
            Maintained::Keys { keys, more }
        }
        page => page,
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
