//! What every [`ReplicaTransport`] does while nothing goes wrong, and what it says when something does.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{Shared, join_all};

use super::within;
use crate::placement::{DEFAULT_VIRTUAL_NODES, Epoch, Node, NodeId, NodeStatus, PartitionId};
use crate::ports::{
    AcceptRequest, CallError, Clock, HintsReport, Instant, JoinSource, NodeReport, Operation,
    Overwrites, RecordKey, Refusal, Release, ReplicaTransport, Reply, Request, RequestHandler,
    Standing, TenantId,
};
use crate::version::{Actor, Content, Context, Dot, Rank, Stamp, WriteId};

/// A call's answer, sooner or later.
type Answering = Pin<Box<dyn Future<Output = Result<Reply, Refusal>> + Send>>;

/// A storage node that does as the suite says.
#[derive(Clone)]
pub struct ScriptedNode {
    id: NodeId,
    script: Arc<dyn Fn(Request) -> Answering + Send + Sync>,
}

impl ScriptedNode {
    fn new<F>(script: impl Fn(Request) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Reply, Refusal>> + Send + 'static,
    {
        let script = Arc::new(move |request| Box::pin(script(request)) as Answering);
        Self {
            id: node_id("conformance-node"),
            script,
        }
    }

    /// The node's entry in a topology, at this address.
    #[must_use]
    pub fn at(&self, host: &str, port: u16) -> Node {
        let (id, host) = (self.id.clone(), host.into());
        Node {
            id,
            host,
            port,
            virtual_nodes: DEFAULT_VIRTUAL_NODES,
            status: NodeStatus::Active,
            zone: None,
            seat: None,
        }
    }
}

impl RequestHandler for ScriptedNode {
    fn node(&self) -> &NodeId {
        &self.id
    }

    fn handle(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static {
        (self.script)(request)
    }
}

/// A transport and one node that it reaches.
pub struct TransportBench<T> {
    /// The transport, new.
    pub transport: T,
    /// Where the scripted node is.
    pub node: Node,
    /// The same node at an address where nobody is.
    pub absent: Node,
    /// Takes the scripted node away as a crash would.
    pub stop: Box<dyn FnOnce() + Send>,
}

/// Panics unless the transports made by `bench`, each with a node that answers as it is told, keep to
/// [`ReplicaTransport`]. The network between the two must be in order.
pub async fn replica_transport<T: ReplicaTransport>(
    clock: &impl Clock,
    bench: impl AsyncFn(ScriptedNode) -> TransportBench<T>,
) {
    every_request_arrives_as_it_left(clock, &bench).await;
    every_answer_arrives_as_it_left(clock, &bench).await;
    an_answer_belongs_to_its_request(clock, &bench).await;
    long_values_pass_amid_short_ones(clock, &bench).await;
    a_deadline_ends_the_wait(clock, &bench).await;
    a_deadline_that_has_passed_sends_nothing(clock, &bench).await;
    a_call_leaves_when_first_polled(clock, &bench).await;
    a_call_given_up_disturbs_nobody(clock, &bench).await;
    nobody_there_is_not_sent(clock, &bench).await;
    a_node_that_goes_gives_no_answer(clock, &bench).await;
}

async fn every_request_arrives_as_it_left<T: ReplicaTransport>(
    clock: &impl Clock,
    bench: &impl AsyncFn(ScriptedNode) -> TransportBench<T>,
) {
    let seen = Seen::default();
    let bench = bench(seen.recorder(async |_| Ok(Reply::Adopted { adopted: true }))).await;
    let context = Context {
        shown: [(Actor(u64::MAX), 3), (Actor(1), u64::MAX)]
            .into_iter()
            .collect(),
        written: Some(Dot {
            actor: Actor(2),
            counter: 9,
        }),
    };
    let stamp = |overwrites, content| {
        Operation::Accept(Box::new(AcceptRequest {
            key: key("k"),
            write_id: WriteId(u128::MAX - 5),
            stamp: Stamp::new(1_700_000_000_000, 3),
            overwrites,
            content,
            siblings_max: 300,
        }))
    };
    let operations = [
        stamp(
            Overwrites::All(Context::default()),
            Content::Value("v".into()),
        ),
        stamp(
            Overwrites::All(context.clone()),
            Content::Value(Bytes::new()),
        ),
        stamp(Overwrites::Covered(context), Content::Tombstone),
        Operation::Join {
            key: key("k"),
            record: "record".into(),
            judged: None,
            source: JoinSource::Client,
        },
        Operation::Read {
            key: key(&"ключ".repeat(128)),
        },
        Operation::Probe,
        Operation::AdoptEpochIfEmpty {
            epoch: Epoch(u64::MAX),
            is_new: true,
        },
    ];
    let mut sent = Vec::new();
    for operation in operations {
        for node in [bench.node.id.clone(), node_id("another")] {
            let request = Request {
                node,
                epoch: Epoch(7),
                operation: operation.clone(),
            };
            sent.push(request.clone());
            let call = bench.transport.call(&bench.node, request, later(clock));
            assert_eq!(
                within(clock, "an answer", call).await,
                Ok(Reply::Adopted { adopted: true })
            );
        }
    }
    assert_eq!(seen.take(), sent);
}

async fn every_answer_arrives_as_it_left<T: ReplicaTransport>(
    clock: &impl Clock,
    bench: &impl AsyncFn(ScriptedNode) -> TransportBench<T>,
) {
    let report = |refuses_writes, refilling| {
        Reply::Report(NodeReport {
            node: node_id("n1"),
            incarnations: vec![Actor(0), Actor(u64::MAX)],
            epoch: Epoch(9),
            wall_ms: u64::MAX,
            keys: 12,
            disk_used_percent: Some(100),
            refuses_writes,
            tombstones: 5,
            hints: vec![HintsReport {
                target: node_id("n2"),
                outstanding: 1,
                oldest_ms: 2,
                rounds: 3,
            }],
            refilling,
            release: Release::Current,
            older_callers: vec!["10.0.0.7".into(), "fd00::7".into()],
        })
    };
    let answers = [
        Ok(Reply::Accepted {
            dot: Dot {
                actor: Actor(u64::MAX),
                counter: 1,
            },
            record: "record".into(),
        }),
        Ok(Reply::Superseded {
            greatest: Rank {
                stamp: Stamp(5),
                write_id: WriteId(6 << 64 | 7),
            },
            may_be_over: true,
            record: "record".into(),
        }),
        Ok(Reply::Behind),
        Ok(Reply::Joined {
            greatest: Rank {
                stamp: Stamp::MAX,
                write_id: WriteId(u128::MAX),
            },
            standing: Standing::Leading,
        }),
        Ok(Reply::Joined {
            greatest: Rank::default(),
            standing: Standing::Overwritten,
        }),
        Ok(Reply::Joined {
            greatest: Rank::default(),
            standing: Standing::Outstripped,
        }),
        Ok(Reply::Found { record: None }),
        Ok(Reply::Found {
            record: Some(Bytes::new()),
        }),
        Ok(Reply::Found {
            record: Some("record".into()),
        }),
        Ok(Reply::Refilling(Box::new(Reply::Found {
            record: Some("record".into()),
        }))),
        Ok(Reply::Refilling(Box::new(Reply::Joined {
            greatest: Rank::default(),
            standing: Standing::Outstripped,
        }))),
        Ok(report(None, None)),
        Ok(report(
            Some("the disk is full".into()),
            Some(Duration::from_millis(7)),
        )),
        Err(Refusal::Refilling),
        Ok(Reply::Adopted { adopted: true }),
        Ok(Reply::Adopted { adopted: false }),
        Err(Refusal::StaleEpoch {
            current: Epoch(u64::MAX),
        }),
        Err(Refusal::WrongNode {
            actual: node_id("n7"),
        }),
        Err(Refusal::Unavailable("stopping".into())),
        Err(Refusal::Overloaded),
        Err(Refusal::Damaged),
        Err(Refusal::StorageFailed("sync".into())),
        Err(Refusal::Crowded("read it first".into())),
        Err(Refusal::Malformed("record".into())),
    ];
    let script = answers.clone();
    let bench = bench(ScriptedNode::new(move |request| {
        let answer = script[number_of(&request)].clone();
        async { answer }
    }))
    .await;
    for (number, answer) in answers.into_iter().enumerate() {
        let call = bench
            .transport
            .call(&bench.node, read(&bench, number), later(clock));
        assert_eq!(
            within(clock, "an answer", call).await,
            answer.map_err(CallError::Refused)
        );
    }
}

async fn an_answer_belongs_to_its_request<T: ReplicaTransport>(
    clock: &impl Clock,
    bench: &impl AsyncFn(ScriptedNode) -> TransportBench<T>,
) {
    let bench = bench(ScriptedNode::new(|request| async move {
        // Out of order, by a multiplicative hash of the number.
        yields(number_of(&request).wrapping_mul(2_654_435_761) >> 7 & 31).await;
        echo(request)
    }))
    .await;
    let calls = (0..2000).map(|number| {
        let call = bench
            .transport
            .call(&bench.node, read(&bench, number), later(clock));
        async move { (number, call.await) }
    });
    for (number, answer) in within(clock, "many concurrent answers", join_all(calls)).await {
        assert_eq!(
            answer,
            Ok(found(key(&number.to_string()).as_bytes().clone()))
        );
    }
}

async fn long_values_pass_amid_short_ones<T: ReplicaTransport>(
    clock: &impl Clock,
    bench: &impl AsyncFn(ScriptedNode) -> TransportBench<T>,
) {
    let bench = bench(ScriptedNode::new(|request| async move { echo(request) })).await;
    let calls = (0..60_usize).map(|number| {
        let operation = if number.is_multiple_of(10) {
            let record = pattern(number, 1024 * 1024 + number);
            Operation::Join {
                key: key("long"),
                record,
                judged: None,
                source: JoinSource::Client,
            }
        } else {
            Operation::Join {
                key: key("short"),
                record: pattern(number, number),
                judged: None,
                source: JoinSource::Client,
            }
        };
        let call = bench
            .transport
            .call(&bench.node, to(&bench, operation.clone()), later(clock));
        async move { (operation, call.await) }
    });
    for (operation, answer) in within(clock, "long answers", join_all(calls)).await {
        let Operation::Join { record, .. } = operation else {
            unreachable!("as made above")
        };
        assert!(
            answer == Ok(found(record)),
            "a long value changed on its way"
        );
    }
}

async fn a_deadline_ends_the_wait<T: ReplicaTransport>(
    clock: &impl Clock,
    bench: &impl AsyncFn(ScriptedNode) -> TransportBench<T>,
) {
    let bench = bench(ScriptedNode::new(|request| async move {
        if number_of(&request) == 0 {
            std::future::pending::<()>().await;
        }
        echo(request)
    }))
    .await;
    warm_up(clock, &bench).await;
    let deadline = clock.now() + Duration::from_millis(50);
    let answer = within(
        clock,
        "the deadline",
        bench.transport.call(&bench.node, read(&bench, 0), deadline),
    )
    .await;
    assert!(matches!(answer, Err(CallError::NoAnswer(_))), "{answer:?}");
    assert!(clock.now() >= deadline, "ended before its deadline");
    let call = bench
        .transport
        .call(&bench.node, read(&bench, 1), later(clock));
    assert!(
        within(clock, "an answer after another's deadline", call)
            .await
            .is_ok()
    );
}

async fn a_deadline_that_has_passed_sends_nothing<T: ReplicaTransport>(
    clock: &impl Clock,
    bench: &impl AsyncFn(ScriptedNode) -> TransportBench<T>,
) {
    let seen = Seen::default();
    let bench = bench(seen.recorder(async |request| echo(request))).await;
    let answer = within(
        clock,
        "an old deadline",
        bench
            .transport
            .call(&bench.node, read(&bench, 0), clock.now()),
    )
    .await;
    assert!(matches!(answer, Err(CallError::NotSent(_))), "{answer:?}");
    warm_up(clock, &bench).await;
    assert_eq!(seen.take(), [read(&bench, WARM)]);
}

async fn a_call_leaves_when_first_polled<T: ReplicaTransport>(
    clock: &impl Clock,
    bench: &impl AsyncFn(ScriptedNode) -> TransportBench<T>,
) {
    let seen = Seen::default();
    let bench = bench(seen.recorder(async |request| echo(request))).await;
    let mut call = Box::pin(
        bench
            .transport
            .call(&bench.node, read(&bench, 0), later(clock)),
    );
    warm_up(clock, &bench).await;
    assert_eq!(
        seen.take(),
        [read(&bench, WARM)],
        "left before it was polled"
    );
    let _ready = (&mut call).now_or_never();
    drop(call);
    let arrival = async {
        while seen.take().is_empty() {
            clock.sleep(Duration::from_millis(1)).await;
        }
    };
    within(clock, "the operation of a call that was given up", arrival).await;
}

async fn a_call_given_up_disturbs_nobody<T: ReplicaTransport>(
    clock: &impl Clock,
    bench: &impl AsyncFn(ScriptedNode) -> TransportBench<T>,
) {
    let (open, gate) = gate();
    let bench = bench(ScriptedNode::new(move |request| {
        let gate = gate.clone();
        async move {
            if number_of(&request) < WARM {
                let _open = gate.await;
            }
            echo(request)
        }
    }))
    .await;
    let mut calls: Vec<_> = (0..100)
        .map(|number| {
            (
                number,
                Box::pin(
                    bench
                        .transport
                        .call(&bench.node, read(&bench, number), later(clock)),
                ),
            )
        })
        .collect();
    for (_, call) in &mut calls {
        assert_eq!(call.now_or_never(), None);
    }
    calls.retain(|(number, _)| number % 3 == 0);
    warm_up(clock, &bench).await;
    let more = (100..200).map(|number| {
        (
            number,
            Box::pin(
                bench
                    .transport
                    .call(&bench.node, read(&bench, number), later(clock)),
            ),
        )
    });
    calls.extend(more);
    drop(open);
    let answers = join_all(
        calls
            .into_iter()
            .map(|(number, call)| async move { (number, call.await) }),
    );
    for (number, answer) in within(clock, "the answers of those not given up", answers).await {
        assert_eq!(
            answer,
            Ok(found(key(&number.to_string()).as_bytes().clone()))
        );
    }
}

async fn nobody_there_is_not_sent<T: ReplicaTransport>(
    clock: &impl Clock,
    bench: &impl AsyncFn(ScriptedNode) -> TransportBench<T>,
) {
    let bench = bench(ScriptedNode::new(|request| async move { echo(request) })).await;
    let answer = within(
        clock,
        "nobody",
        bench
            .transport
            .call(&bench.absent, read(&bench, 0), later(clock)),
    )
    .await;
    assert!(matches!(answer, Err(CallError::NotSent(_))), "{answer:?}");
    warm_up(clock, &bench).await;
}

async fn a_node_that_goes_gives_no_answer<T: ReplicaTransport>(
    clock: &impl Clock,
    bench: &impl AsyncFn(ScriptedNode) -> TransportBench<T>,
) {
    let seen = Seen::default();
    let bench = bench(seen.recorder(async |request| {
        if number_of(&request) == 0 {
            std::future::pending::<()>().await;
        }
        echo(request)
    }))
    .await;
    warm_up(clock, &bench).await;
    let mut call = Box::pin(
        bench
            .transport
            .call(&bench.node, read(&bench, 0), later(clock)),
    );
    assert_eq!((&mut call).now_or_never(), None);
    let arrival = async {
        while !seen.take().contains(&read(&bench, 0)) {
            clock.sleep(Duration::from_millis(1)).await;
        }
    };
    within(clock, "the request's arrival", arrival).await;
    (bench.stop)();
    let answer = within(clock, "the end of a call to a node that is gone", call).await;
    assert!(matches!(answer, Err(CallError::NoAnswer(_))), "{answer:?}");
    let request = Request {
        node: bench.node.id.clone(),
        epoch: Epoch(1),
        operation: Operation::Probe,
    };
    let answer = within(
        clock,
        "nobody",
        bench.transport.call(&bench.node, request, later(clock)),
    )
    .await;
    assert!(matches!(answer, Err(CallError::NotSent(_))), "{answer:?}");
}

/// What a node was asked.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Request>>>);

impl Seen {
    /// A node that keeps what it is asked, then answers.
    fn recorder<F>(&self, answer: impl Fn(Request) -> F + Send + Sync + 'static) -> ScriptedNode
    where
        F: Future<Output = Result<Reply, Refusal>> + Send + 'static,
    {
        let seen = self.clone();
        ScriptedNode::new(move |request: Request| {
            seen.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(request.clone());
            answer(request)
        })
    }

    fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A read's number that no test uses otherwise.
const WARM: usize = 1_000_000;

/// One answered call, so that whatever has to be set up is.
async fn warm_up<T: ReplicaTransport>(clock: &impl Clock, bench: &TransportBench<T>) {
    let call = bench
        .transport
        .call(&bench.node, read(bench, WARM), later(clock));
    let answer = within(clock, "a first answer", call).await;
    assert_eq!(answer, Ok(found(key(&WARM.to_string()).as_bytes().clone())));
}

fn later(clock: &impl Clock) -> Instant {
    clock.now() + Duration::from_secs(15)
}

fn node_id(name: &str) -> NodeId {
    NodeId::new(name).unwrap_or_else(|error| panic!("{error}"))
}

fn key(key: &str) -> RecordKey {
    let tenant = TenantId::new("tenant").unwrap_or_else(|error| panic!("{error}"));
    RecordKey::new(PartitionId(4095), &tenant, key)
}

fn to<T>(bench: &TransportBench<T>, operation: Operation) -> Request {
    Request {
        node: bench.node.id.clone(),
        epoch: Epoch(1),
        operation,
    }
}

fn read<T>(bench: &TransportBench<T>, number: usize) -> Request {
    to(
        bench,
        Operation::Read {
            key: key(&number.to_string()),
        },
    )
}

/// The number of a [`read`].
fn number_of(request: &Request) -> usize {
    match &request.operation {
        Operation::Read { key } => key.key().parse().unwrap_or(usize::MAX),
        _ => usize::MAX,
    }
}

/// An answer that could only be given by who knows the request.
fn echo(request: Request) -> Result<Reply, Refusal> {
    match request.operation {
        Operation::Read { key } => Ok(found(key.as_bytes().clone())),
        Operation::Join { record, .. } => Ok(found(record)),
        _ => Ok(Reply::Found { record: None }),
    }
}

const fn found(record: Bytes) -> Reply {
    Reply::Found {
        record: Some(record),
    }
}

/// Bytes that tell when two of them were exchanged or some were lost.
fn pattern(seed: usize, length: usize) -> Bytes {
    (0..length)
        .map(|at| (at.wrapping_mul(31) >> 3 ^ at ^ seed) as u8)
        .collect()
}

/// Opens when the first is dropped.
fn gate() -> (oneshot::Sender<()>, Shared<oneshot::Receiver<()>>) {
    let (open, opened) = oneshot::channel();
    (open, opened.shared())
}

/// Lets others run, so many times.
async fn yields(times: usize) {
    let mut left = times;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
