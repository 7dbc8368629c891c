//! Every request and reply comes back from the wire as it was, and nonsense is refused.

use bytes::Bytes;
use prost::Message;

use super::*;
use crate::placement::PartitionId;
use crate::ports::{JoinSource, RecordKey, TenantId};

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn record_key() -> RecordKey {
    RecordKey::new(PartitionId(513), &TenantId::new("tenant").unwrap(), "ключ")
}

fn stamp(overwrites: Overwrites, content: Content) -> Operation {
    Operation::Accept(Box::new(AcceptRequest {
        key: record_key(),
        write_id: WriteId(u128::MAX - 1),
        stamp: Stamp(u64::MAX - 2),
        overwrites,
        content,
        siblings_max: 2,
    }))
}

fn context() -> Context {
    Context {
        shown: [(Actor(u64::MAX), 1), (Actor(3), u64::MAX)]
            .into_iter()
            .collect(),
        written: Some(Dot {
            actor: Actor(2),
            counter: 9,
        }),
    }
}

fn operations() -> Vec<Operation> {
    vec![
        stamp(Overwrites::All(context()), Content::Value("v".into())),
        stamp(
            Overwrites::All(Context::default()),
            Content::Value(Bytes::new()),
        ),
        stamp(Overwrites::Covered(context()), Content::Tombstone),
        Operation::Join {
            key: record_key(),
            record: "record".into(),
            judged: None,
            source: JoinSource::Client,
        },
        Operation::Join {
            key: record_key(),
            record: Bytes::new(),
            judged: Some(Judged {
                dot: Dot {
                    actor: Actor(u64::MAX),
                    counter: 7,
                },
                rank: Rank {
                    stamp: Stamp(3),
                    write_id: WriteId(u128::MAX),
                },
            }),
            source: JoinSource::Client,
        },
        Operation::Join {
            key: record_key(),
            record: "record".into(),
            judged: None,
            source: JoinSource::Exchange,
        },
        Operation::Join {
            key: record_key(),
            record: "record".into(),
            judged: None,
            source: JoinSource::Handoff,
        },
        Operation::Read { key: record_key() },
        Operation::Probe,
        Operation::AdoptEpochIfEmpty {
            epoch: Epoch(u64::MAX),
            is_new: true,
        },
    ]
}

#[test]
fn every_request_comes_back() {
    for operation in operations() {
        for asked in ["n1", "n2"] {
            let request = Request {
                node: node(asked),
                epoch: Epoch(7),
                operation: operation.clone(),
            };
            let wire = request_to_proto(u64::MAX, &node("n1"), request.clone(), String::new());
            let wire = v1::ReplicaRequest::decode(Bytes::from(wire.encode_to_vec())).unwrap();
            assert_eq!(wire.id, u64::MAX);
            assert_eq!(
                wire.node_id.is_empty(),
                asked == "n1",
                "the batch's name is not repeated"
            );
            assert_eq!(request_from_proto(Some(&node("n1")), wire), Ok(request));
        }
    }
}

fn report(refuses_writes: Option<String>) -> Reply {
    Reply::Report(NodeReport {
        disk_used_percent: Some(42),
        node: node("n1"),
        incarnations: vec![Actor(0), Actor(u64::MAX)],
        epoch: Epoch(9),
        wall_ms: u64::MAX,
        keys: 12,
        tombstones: 0,
        hints: Vec::new(),
        refilling: None,
        refuses_writes,
        release: Release::Current,
        older_callers: vec!["10.0.0.7".into()],
    })
}

fn outcomes() -> Vec<Result<Reply, Refusal>> {
    vec![
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
        Ok(report(None)),
        Ok(report(Some("the disk is full".into()))),
        Ok(Reply::Adopted { adopted: true }),
        Ok(Reply::Adopted { adopted: false }),
        Err(Refusal::StaleEpoch {
            current: Epoch(u64::MAX),
        }),
        Err(Refusal::WrongNode { actual: node("n7") }),
        Err(Refusal::Unavailable("stopping".into())),
        Err(Refusal::Overloaded),
        Err(Refusal::Damaged),
        Err(Refusal::Purged),
        Err(Refusal::HandedOver),
        Err(Refusal::Refilling),
        Err(Refusal::StorageFailed("sync".into())),
        Err(Refusal::Crowded("read it first".into())),
        Err(Refusal::Malformed("record".into())),
    ]
}

#[test]
fn every_reply_comes_back() {
    for outcome in outcomes() {
        let wire = reply_to_proto(3, outcome.clone());
        let wire = v1::ReplicaReply::decode(Bytes::from(wire.encode_to_vec())).unwrap();
        assert_eq!(wire.id, 3);
        assert_eq!(answer_from_proto(wire), outcome.map_err(CallError::Refused));
    }
}

#[test]
fn a_request_that_makes_no_sense_is_refused() {
    let request = |operation| v1::ReplicaRequest {
        operation,
        ..Default::default()
    };
    let stamp = |key: Bytes, actors| {
        let context = Some(v1::Context {
            actors,
            counters: vec![1],
            written: None,
        });
        Wire::Accept(v1::Accept {
            key,
            context,
            ..Default::default()
        })
    };
    let senseless = [
        request(None),
        request(Some(Wire::Read(v1::Read { key: Bytes::new() }))),
        request(Some(Wire::Read(v1::Read {
            key: Bytes::from_static(&[0, 0, 200, b't', b'k']),
        }))),
        request(Some(Wire::Join(v1::Join {
            key: Bytes::from_static(&[0, 0, 1, 0xff, b'k']),
            record: Bytes::new(),
            judged: None,
            exchanged: false,
            handoff: false,
        }))),
        request(Some(stamp(Bytes::new(), vec![1]))),
        request(Some(stamp(record_key().as_bytes().clone(), vec![1, 2]))),
        v1::ReplicaRequest {
            node_id: "no name\n".into(),
            ..request(Some(Wire::Probe(v1::Probe {})))
        },
    ];
    for request in senseless {
        let refusal = request_from_proto(Some(&node("n1")), request.clone());
        assert!(
            matches!(refusal, Err(Refusal::Malformed(_))),
            "{request:?}: {refusal:?}"
        );
    }
    let nameless = request(Some(Wire::Probe(v1::Probe {})));
    assert!(matches!(
        request_from_proto(None, nameless),
        Err(Refusal::Malformed(_))
    ));
}

#[test]
fn a_reply_that_makes_no_sense_is_no_answer() {
    let refusal = |kind, text: &str| {
        let refusal = v1::Refusal {
            kind,
            epoch: 0,
            text: text.into(),
        };
        v1::ReplicaReply {
            id: 1,
            outcome: Some(Outcome::Refusal(refusal)),
            refilling: false,
        }
    };
    let senseless = [
        v1::ReplicaReply {
            id: 1,
            outcome: None,
            refilling: false,
        },
        v1::ReplicaReply {
            id: 1,
            outcome: Some(Outcome::Accepted(v1::Accepted::default())),
            refilling: false,
        },
        v1::ReplicaReply {
            id: 1,
            outcome: Some(Outcome::Report(v1::NodeReport::default())),
            refilling: false,
        },
        refusal(0, ""),
        refusal(99, ""),
        refusal(RefusalKind::WrongNode.into(), ""),
    ];
    for reply in senseless {
        let answer = answer_from_proto(reply.clone());
        assert!(
            matches!(answer, Err(CallError::NoAnswer(_))),
            "{reply:?}: {answer:?}"
        );
    }
}

/// A handed-over join, id 7, of key "k" (bytes of the name below) and record "r", as the release before encoded it:
/// fields 1 (id), 3 (epoch), 11 (join: 1 key, 2 record), and no more.
#[test]
fn an_older_node_is_asked_in_the_bytes_of_its_own_release() {
    let key = RecordKey::new(PartitionId(1), &TenantId::new("t").unwrap(), "k");
    let request = |source| Request {
        node: node("n1"),
        epoch: Epoch(9),
        operation: Operation::Join {
            key: key.clone(),
            record: "r".into(),
            judged: None,
            source,
        },
    };
    let bytes =
        |request: Request| request_to_proto(7, &node("n1"), request, String::new()).encode_to_vec();
    const BEFORE: &[u8] = b"\x08\x07\x18\x09\x5a\x0a\x0a\x05\x00\x01\x01tk\x12\x01r";
    let older = |source| {
        let Request {
            node,
            epoch,
            operation,
        } = request(source);
        let operation = Release::BeforeChangesOfOwners.question(operation).unwrap();
        bytes(Request {
            node,
            epoch,
            operation,
        })
    };
    assert_eq!(older(JoinSource::Client), BEFORE);
    assert_eq!(older(JoinSource::Handoff), BEFORE);
    assert_ne!(
        bytes(request(JoinSource::Handoff)),
        BEFORE,
        "its own says more"
    );
    assert_eq!(bytes(request(JoinSource::Client)), BEFORE);
}

/// The report of node "n", epoch 9, at wall clock 3, as the release before encoded it.
#[test]
fn a_report_of_an_older_node_is_known_for_one() {
    const BEFORE: &[u8] = b"\x0a\x01n\x18\x09\x20\x03";
    let report = v1::NodeReport::decode(BEFORE).unwrap();
    let reply = v1::ReplicaReply {
        id: 1,
        outcome: Some(v1::replica_reply::Outcome::Report(report)),
        ..v1::ReplicaReply::default()
    };
    let Ok(Reply::Report(report)) = answer_from_proto(reply) else {
        panic!("not a report");
    };
    assert_eq!(report.release, Release::BeforeChangesOfOwners);
    assert!(report.older_callers.is_empty());
}

#[test]
fn what_a_node_says_of_its_callers_is_read_with_suspicion() {
    let told = ["10.0.0.7", "", "two words", "\x1b[31m", &"9".repeat(65)];
    let told = told.into_iter().map(str::to_owned);
    let many = (0..1_000).map(|n| format!("n{n}"));
    let names = older_callers(told.chain(many).collect());
    assert_eq!(&*names[0], "10.0.0.7");
    assert_eq!(&*names[1], "n0");
    assert_eq!(names.len(), CALLERS_MAX);
}
