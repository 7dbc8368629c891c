//! The network: carries requests there and answers back, or not, as the active faults say.
//!
//! A request that has left is the network's: it arrives even if its sender has given up or died. It is handed to the
//! process that runs at the other end *when it arrives*. Every directed link draws from a stream of its own.

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::channel::oneshot;
use madsim::runtime::NodeHandle;

use crate::endpoint::Endpoint;
use crate::faults::Faults;
use crate::pause::pause;
use crate::recorder::{CallId, Fate, Recorder};
use crate::rng::Rng;

/// The network. Copies are the same network.
#[derive(Clone)]
pub struct Network(Arc<Shared>);

struct Shared {
    seed: u64,
    faults: Faults,
    /// Where messages under way live: a simulated machine that never fails.
    wire: NodeHandle,
    links: Mutex<BTreeMap<(Endpoint, Endpoint), Link>>,
    counted: AtomicU64,
    recorder: Recorder,
}

/// One directed link.
struct Link {
    rng: Rng,
    /// How much longer than others it takes, always.
    far: Duration,
}

/// One request's way.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The sender.
    pub from: Endpoint,
    /// The receiver.
    pub to: Endpoint,
    /// Whether the network may deliver it twice.
    pub may_repeat: bool,
    /// Whether [`Network::in_flight`] counts it.
    pub counted: bool,
    /// What it is in the record of the run.
    pub call: CallId,
}

/// An answer.
#[derive(Clone, Copy, Debug)]
pub struct Answered<A> {
    /// What the receiver answered the first time.
    pub answer: A,
    /// Whether the request arrives a second time. Then a refusal does not mean that it had no effect.
    pub repeated: bool,
}

/// Why no answer came, where the sender gets to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// There was nobody to deliver it to; it certainly had no effect.
    Refused,
    /// The receiver died over it.
    Broken,
}

impl Network {
    /// Where messages are while they are under way.
    #[must_use]
    pub fn wire(&self) -> &NodeHandle {
        &self.0.wire
    }

    /// A network that lives on `wire`.
    #[must_use]
    pub fn new(seed: u64, faults: Faults, wire: NodeHandle, recorder: Recorder) -> Self {
        let (links, counted) = Default::default();
        Self(Arc::new(Shared {
            seed,
            faults,
            wire,
            links,
            counted,
            recorder,
        }))
    }

    /// What goes wrong in it.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Who writes down what passes.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    /// How many counted requests have not been carried out or lost yet.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.0.counted.load(Ordering::Relaxed)
    }

    /// Sends a request when first polled. `deliver` is called at its arrival, once or (if the route allows it) twice;
    /// it starts the work and returns where its answer will be, or `None` when nobody is there. When something got lost
    /// on the way this never completes.
    pub fn call<A, D>(
        &self,
        route: Route,
        deliver: D,
    ) -> impl Future<Output = Result<Answered<A>, Lost>> + Send + use<A, D>
    where
        A: Send + 'static,
        D: FnMut() -> Option<oneshot::Receiver<A>> + Send + 'static,
    {
        let network = self.clone();
        async move {
            let (answer, answered) = oneshot::channel();
            network.0.faults.message(route.from, route.to);
            let refused = network.0.faults.blocked(route.from, route.to);
            let losses = network.0.faults.losses(route.from, route.to);
            let lost = network.draw(route.from, route.to, |rng| {
                rng.chance(losses.request_permille)
            });
            match refused {
                Some(true) => {
                    network.travel(route.from, route.to).await;
                    network.0.recorder.failed(route.call, Fate::Refused);
                    return Err(Lost::Refused);
                }
                None if !lost => {
                    let counted = route.counted.then(|| InFlight::new(&network.0));
                    let carry = network.clone().carry(route, deliver, answer, counted);
                    drop(network.0.wire.spawn(carry));
                }
                _ => {
                    network.0.recorder.failed(route.call, Fate::Lost);
                    drop(answer);
                }
            }
            match answered.await {
                Ok(answer) => {
                    network.0.faults.message(route.from, route.to);
                    answer
                }
                Err(oneshot::Canceled) => pending().await,
            }
        }
    }

    async fn carry<A: Send + 'static>(
        self,
        route: Route,
        mut deliver: impl FnMut() -> Option<oneshot::Receiver<A>> + Send + 'static,
        answer: oneshot::Sender<Result<Answered<A>, Lost>>,
        counted: Option<InFlight>,
    ) {
        let Route { from, to, .. } = route;
        self.travel(from, to).await;
        self.0.faults.message(to, from);
        let Some(work) = deliver() else {
            self.0.recorder.failed(route.call, Fate::Nobody);
            self.travel(to, from).await;
            let _ = answer.send(Err(Lost::Refused));
            return;
        };
        let again = self.draw(from, to, |rng| self.0.faults.duplicate(rng));
        let again = again.filter(|_| route.may_repeat);
        let repeated = again.is_some();
        if let Some(later) = again {
            let counted = counted.as_ref().map(|_| InFlight::new(&self.0));
            drop(self.0.wire.spawn(async move {
                pause(later).await;
                if let Some(work) = deliver() {
                    let _ = work.await;
                }
                drop(counted);
            }));
        }
        let result = work.await;
        drop(counted);
        self.0.faults.message(to, from);
        let losses = self.0.faults.losses(from, to);
        let (lost, noticed) = self.draw(from, to, |rng| {
            (rng.chance(losses.reply_permille), rng.chance(500))
        });
        if lost || self.0.faults.blocked(to, from).is_some() {
            self.0.recorder.returned(route.call, Fate::Lost);
            return;
        }
        self.travel(to, from).await;
        let fate = match result {
            Ok(result) => {
                let answered = Answered {
                    answer: result,
                    repeated,
                };
                match answer.send(Ok(answered)) {
                    Ok(()) => Fate::Received,
                    Err(_) => Fate::Unheard,
                }
            }
            Err(oneshot::Canceled) if noticed => {
                drop(answer.send(Err(Lost::Broken)));
                Fate::Broken
            }
            Err(oneshot::Canceled) => Fate::Silent,
        };
        self.0.recorder.returned(route.call, fate);
    }

    async fn travel(&self, from: Endpoint, to: Endpoint) {
        let latency = self.with_link(from, to, |link| {
            link.far + self.0.faults.latency(from, to, &mut link.rng)
        });
        pause(latency).await;
    }

    fn draw<T>(&self, from: Endpoint, to: Endpoint, draw: impl FnOnce(&mut Rng) -> T) -> T {
        self.with_link(from, to, |link| draw(&mut link.rng))
    }

    fn with_link<T>(&self, from: Endpoint, to: Endpoint, use_it: impl FnOnce(&mut Link) -> T) -> T {
        let mut links = self.0.links.lock().unwrap_or_else(PoisonError::into_inner);
        use_it(links.entry((from, to)).or_insert_with(|| {
            let mut rng = Rng::new(self.0.seed, &format!("link {from} {to}"));
            let far = self.0.faults.distance(&mut rng);
            Link { rng, far }
        }))
    }
}

/// Counts a request for as long as it is held.
struct InFlight(Arc<Shared>);

impl InFlight {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.counted.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.counted.fetch_sub(1, Ordering::Relaxed);
    }
}
