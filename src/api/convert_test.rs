//! Every field has its place, and every wrong one an error that names it.

use bytes::Bytes;

use super::*;
use crate::coordinator::ReadValue;
use crate::placement::{ChangeId, Epoch};
use crate::ports::{NodeReport, Release, SiblingLimits, TenantId};
use crate::version::{Actor, Stamp};

fn write(consistency: &str, idempotency_key: Option<&str>) -> v1::WriteKeyValueRequest {
    v1::WriteKeyValueRequest {
        tenant_id: "t".into(),
        key: "k".into(),
        value: "v".into(),
        consistency: consistency.into(),
        idempotency_key: idempotency_key.map(Into::into),
        context: "c".into(),
    }
}

fn problem<T: std::fmt::Debug>(result: Result<T, CoordinatorError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_write_is_taken_as_it_is() {
    let timeout = Some(Duration::from_secs(1));
    let expected = WriteRequest {
        tenant: "t".into(),
        key: "k".into(),
        content: Content::Value("v".into()),
        consistency: Some(Consistency::All),
        context: "c".into(),
        idempotency_key: Some("i".into()),
        timeout,
    };
    assert_eq!(
        write_request(write("all", Some("i")), timeout),
        Ok(expected.clone())
    );
    let delete = v1::DeleteKeyValueRequest {
        tenant_id: "t".into(),
        key: "k".into(),
        consistency: "all".into(),
        idempotency_key: Some("i".into()),
        context: "c".into(),
    };
    let expected = WriteRequest {
        content: Content::Tombstone,
        ..expected
    };
    assert_eq!(delete_request(delete, timeout), Ok(expected));
}

#[test]
fn what_is_empty_is_not_given() {
    for idempotency_key in [None, Some("")] {
        let request = write_request(write("", idempotency_key), None).unwrap();
        assert_eq!((request.consistency, request.idempotency_key), (None, None));
    }
    let request = v1::WriteKeyValueRequest::default();
    assert_eq!(
        write_request(request, None).unwrap().content,
        Content::Value(Bytes::new())
    );
}

#[test]
fn a_consistency_has_a_name() {
    for (name, level) in [
        ("one", Consistency::One),
        ("quorum", Consistency::Quorum),
        ("ALL", Consistency::All),
    ] {
        let request = v1::ReadKeyValueRequest {
            consistency: name.into(),
            ..Default::default()
        };
        assert_eq!(
            read_request(request, None).unwrap().consistency,
            Some(level)
        );
    }
    assert_eq!(
        problem(write_request(write("two", None), None)),
        "consistency: is 'two'; it must be one, quorum or all, or empty for the default"
    );
}

#[test]
fn a_node_needs_a_name_a_host_and_a_port() {
    let request = v1::AddStorageNodeRequest {
        node_id: "n1".into(),
        host: "h".into(),
        port: 7000,
        virtual_nodes: 0,
        zone: String::new(),
    };
    let added = node(request.clone()).unwrap();
    assert_eq!(
        (
            added.id.as_str(),
            added.host.as_str(),
            added.port,
            added.virtual_nodes
        ),
        ("n1", "h", 7000, 150)
    );
    type Spoil = fn(&mut v1::AddStorageNodeRequest);
    let spoilt: [(&str, Spoil); 9] = [
        ("zone: ", |request| request.zone = "no zone".into()),
        ("node_id: ", |request| request.node_id.clear()),
        ("node_id: ", |request| request.node_id = "n#1".into()),
        ("host: ", |request| request.host = "no host".into()),
        ("port: ", |request| request.port = 0),
        ("port: is 65536; ", |request| request.port = 65536),
        ("port: is -1; ", |request| request.port = -1),
        ("virtual_nodes: is -1; ", |request| {
            request.virtual_nodes = -1
        }),
        ("virtual_nodes: ", |request| {
            request.virtual_nodes = i32::MAX
        }),
    ];
    for (expected, spoil) in spoilt {
        let mut request = request.clone();
        spoil(&mut request);
        let problem = problem(node(request));
        assert!(problem.starts_with(expected), "{problem}");
    }
}

#[test]
fn policies_and_factors_are_checked() {
    assert_eq!(conflict_policy(""), Ok(None));
    assert_eq!(
        conflict_policy("siblings"),
        Ok(Some(ConflictPolicy::Siblings))
    );
    assert_eq!(
        conflict_policy("last_write_wins"),
        Ok(Some(ConflictPolicy::LastWriteWins))
    );
    assert_eq!(
        problem(conflict_policy("newest")),
        "conflict_policy: is 'newest'; it must be last_write_wins or siblings"
    );
    assert_eq!(
        sibling_limits(2, 256),
        Ok(SiblingLimits { warn: 2, max: 256 })
    );
    for (warn, max, expected) in [
        (1, 0, "siblings_max: is 0; it must be 1 to 256"),
        (1, 257, "siblings_max: is 257; it must be 1 to 256"),
        (
            0,
            9,
            "siblings_warn: is 0; it must be 1 to siblings_max, which is 9",
        ),
        (
            10,
            9,
            "siblings_warn: is 10; it must be 1 to siblings_max, which is 9",
        ),
    ] {
        assert_eq!(problem(sibling_limits(warn, max)), expected);
    }
    assert_eq!(replication_factor(3), Ok(3));
    assert_eq!(
        problem(replication_factor(-1)),
        "replication_factor: -1 is not possible; it must be 1 to 10"
    );
}

fn clock() -> Vec<ClockEntry> {
    vec![
        ClockEntry {
            node: "n1#3f9a".into(),
            counter: 7,
        },
        ClockEntry {
            node: "n2#0001".into(),
            counter: u64::MAX,
        },
    ]
}

fn wire_clock() -> Option<v1::VectorClock> {
    let entry = |id: &str, counter| v1::VectorClockEntry {
        coordinator_node_id: id.into(),
        logical_timestamp: counter,
    };
    Some(v1::VectorClock {
        entries: vec![entry("n1#3f9a", 7), entry("n2#0001", i64::MAX)],
    })
}

#[test]
fn a_write_is_answered_in_full() {
    let outcome = WriteOutcome {
        replicas: 2,
        consistency: Consistency::Quorum,
        clock: clock(),
        context: "context".into(),
        idempotency_key: "generated".into(),
        is_duplicate: true,
        without_idempotency: true,
        rewritten_bytes: 9,
    };
    let expected = v1::WriteKeyValueResponse {
        success: true,
        key: "k".into(),
        idempotency_key: "generated".into(),
        vector_clock: wire_clock(),
        replica_count: 2,
        consistency: "quorum".into(),
        is_duplicate: true,
        error_message: String::new(),
        context: "context".into(),
        without_idempotency: true,
    };
    assert_eq!(write_response("k".into(), outcome.clone()), expected);
    let expected = v1::DeleteKeyValueResponse {
        success: true,
        key: "k".into(),
        idempotency_key: "generated".into(),
        vector_clock: wire_clock(),
        replica_count: 2,
        consistency: "quorum".into(),
        is_duplicate: true,
        error_message: String::new(),
        context: "context".into(),
        without_idempotency: true,
    };
    assert_eq!(delete_response("k".into(), outcome), expected);
}

#[test]
fn a_read_shows_the_winner_and_siblings_only_when_there_are_some() {
    let shown = |value: &'static str, wall_ms| ReadValue {
        value: value.into(),
        stamp: Stamp::new(wall_ms, 5),
    };
    let outcome = |values| ReadOutcome {
        values,
        clock: clock(),
        context: "context".into(),
    };
    let alone = read_response("k".into(), outcome(vec![shown("v", 9)]));
    assert_eq!(
        (alone.value.as_ref(), alone.siblings.len()),
        (b"v".as_ref(), 0)
    );
    assert_eq!(
        (alone.success, alone.vector_clock, alone.context.as_ref()),
        (true, wire_clock(), b"context".as_ref())
    );

    let both = read_response("k".into(), outcome(vec![shown("v", 9), shown("w", 8)]));
    assert_eq!(both.value.as_ref(), b"v");
    let sibling = |value: &'static str, stamp_unix_ms| v1::Sibling {
        value: value.into(),
        stamp_unix_ms,
        stamp_logical: 5,
    };
    assert_eq!(both.siblings, [sibling("v", 9), sibling("w", 8)]);
}

#[test]
fn a_tenant_is_shown_in_full() {
    let tenant = Tenant {
        id: TenantId::new("t").unwrap(),
        replication_factor: 5,
        conflict_policy: ConflictPolicy::Siblings,
        default_consistency: None,
        siblings: SiblingLimits::new(3, 9).unwrap(),
        created_at: 11,
        updated_at: 12,
        version: 1,
    };
    let expected = v1::GetTenantResponse {
        success: true,
        tenant_id: "t".into(),
        replication_factor: 5,
        created_at: 11,
        updated_at: 12,
        error_message: String::new(),
        conflict_policy: "siblings".into(),
        siblings_warn: 3,
        siblings_max: 9,
        replicas_now: 2,
    };
    assert_eq!(tenant_response(&tenant, 2), expected);
}

#[test]
fn a_node_is_shown_with_its_report_or_without() {
    let id = NodeId::new("n1").unwrap();
    let node = Node {
        id: id.clone(),
        host: "h".into(),
        port: 7000,
        virtual_nodes: 150,
        status: NodeStatus::Draining,
        zone: Some("east".into()),
        seat: None,
    };
    let report = NodeReport {
        node: id,
        incarnations: vec![Actor(1), Actor(0x3f9a << 48)],
        epoch: Epoch(4),
        wall_ms: 1,
        keys: 12,
        disk_used_percent: Some(42),
        tombstones: 0,
        hints: Vec::new(),
        refilling: None,
        refuses_writes: Some("the disk is full".into()),
        release: Release::Current,
        older_callers: Vec::new(),
    };
    let silent = NodeOverview {
        node: node.clone(),
        report: None,
        answers: false,
        healthy: false,
        out_of_step: false,
        changed_by: None,
    };
    let expected = v1::StorageNodeInfo {
        node_id: "n1".into(),
        host: "h".into(),
        port: 7000,
        status: "draining".into(),
        virtual_nodes: 150,
        zone: "east".into(),
        ..Default::default()
    };
    assert_eq!(node_info(silent), expected);
    let expected = v1::StorageNodeInfo {
        keys_count: 12,
        disk_usage_percent: 42.0,
        reachable: true,
        refuses_writes: "the disk is full".into(),
        epoch: 4,
        out_of_step: true,
        incarnation: "n1#3f9a".into(),
        migration_id: "m-0000000000000007".into(),
        ..expected
    };
    assert_eq!(
        node_info(NodeOverview {
            node,
            report: Some(report),
            answers: true,
            healthy: true,
            out_of_step: true,
            changed_by: Some(ChangeId::of_number(7)),
        }),
        expected
    );
}
