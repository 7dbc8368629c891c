//! Keys over gRPC: written, read, deleted, kept apart, and with one effect for one idempotency key.

use std::time::Duration;

use bytes::Bytes;
use tonic::Code;
use tonic_types::StatusExt;

use super::super::test_cluster::TestCluster;
use super::{Client, cluster, create_tenant, read, reason, write};
use crate::proto::v1;

#[tokio::test]
async fn a_key_is_written_read_and_deleted() {
    let (_cluster, mut client) = cluster().await;
    let written = client
        .write_key_value(write("lww", "k", "v"))
        .await
        .unwrap()
        .into_inner();
    assert!(written.success && !written.is_duplicate && !written.without_idempotency);
    assert_eq!(
        (written.key.as_str(), written.consistency.as_str()),
        ("k", "quorum")
    );
    assert!(
        written.replica_count >= 2
            && !written.idempotency_key.is_empty()
            && !written.context.is_empty()
    );
    let clock = written.vector_clock.unwrap().entries;
    assert_eq!(clock.len(), 1);
    assert!(clock[0].coordinator_node_id.contains('#') && clock[0].logical_timestamp > 0);

    let found = client
        .read_key_value(read("lww", "k"))
        .await
        .unwrap()
        .into_inner();
    assert!(found.success && found.siblings.is_empty());
    assert_eq!(
        (found.value.as_ref(), found.vector_clock.unwrap().entries),
        (b"v".as_ref(), clock)
    );

    let delete = v1::DeleteKeyValueRequest {
        tenant_id: "lww".into(),
        key: "k".into(),
        ..Default::default()
    };
    let deleted = client.delete_key_value(delete).await.unwrap().into_inner();
    assert!(deleted.success && deleted.replica_count >= 2);
    let status = client.read_key_value(read("lww", "k")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "key 'k' not found")
    );
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.reason, "KEY_NOT_FOUND");
    assert_eq!(info.metadata["key"], "k");
    assert_eq!(info.metadata["tenant_id"], "lww");
    assert!(!info.metadata["context"].is_empty());
}

#[tokio::test]
async fn concurrent_values_are_siblings_until_a_context_resolves_them() {
    let (_cluster, mut client) = cluster().await;
    for value in ["a", "b"] {
        client
            .write_key_value(write("siblings", "k", value))
            .await
            .unwrap();
    }
    let found = client
        .read_key_value(read("siblings", "k"))
        .await
        .unwrap()
        .into_inner();
    let values: Vec<_> = found
        .siblings
        .iter()
        .map(|sibling| sibling.value.as_ref())
        .collect();
    assert_eq!(values, [b"b", b"a"], "the last written first");
    assert_eq!(found.value.as_ref(), b"b");
    assert!(found.siblings[0].stamp_unix_ms > 1_700_000_000_000);

    let resolve = v1::WriteKeyValueRequest {
        context: found.context,
        ..write("siblings", "k", "c")
    };
    client.write_key_value(resolve).await.unwrap();
    let found = client
        .read_key_value(read("siblings", "k"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (found.value.as_ref(), found.siblings.len()),
        (b"c".as_ref(), 0)
    );
}

#[tokio::test]
async fn an_idempotency_key_has_one_effect_and_one_answer() {
    let (_cluster, mut client) = cluster().await;
    let with_key = |value: &'static str| v1::WriteKeyValueRequest {
        idempotency_key: Some("i1".into()),
        ..write("lww", "k", value)
    };
    let first = client
        .write_key_value(with_key("v"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (first.idempotency_key.as_str(), first.is_duplicate),
        ("i1", false)
    );
    let again = client
        .write_key_value(with_key("v"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        again,
        v1::WriteKeyValueResponse {
            is_duplicate: true,
            ..first
        }
    );
    let status = client.write_key_value(with_key("w")).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::AlreadyExists, "IDEMPOTENCY_KEY_CONFLICT")
    );
    assert!(status.message().contains("idempotency"));
}

#[tokio::test]
async fn the_largest_value_passes() {
    let (_cluster, mut client) = cluster().await;
    let value = vec![7; 1024 * 1024];
    client
        .write_key_value(write("lww", "k", value.clone()))
        .await
        .unwrap();
    let found = client
        .read_key_value(read("lww", "k"))
        .await
        .unwrap()
        .into_inner();
    assert!(found.value == value);
}

#[tokio::test]
async fn a_missing_quorum_says_who_was_missing() {
    let (cluster, mut client) = cluster().await;
    cluster.cut_off(0);
    cluster.cut_off(1);
    let status = client
        .write_key_value(write("lww", "k", "v"))
        .await
        .unwrap_err();
    assert!(
        matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded),
        "{status:?}"
    );
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.reason, "QUORUM_NOT_REACHED");
    assert_eq!(
        (
            info.metadata["consistency"].as_str(),
            info.metadata["required"].as_str()
        ),
        ("quorum", "2")
    );
    assert_eq!(
        (
            info.metadata["answered"].as_str(),
            info.metadata["indeterminate"].as_str()
        ),
        ("1", "true")
    );
    let mut missing: Vec<_> = info.metadata["missing"].split(',').collect();
    missing.sort_unstable();
    assert_eq!(missing, ["n1", "n2"]);
    assert!(
        status
            .message()
            .contains("n1 (not reached: localhost:7001 refuses connections)"),
        "{status:?}"
    );
}

#[tokio::test]
async fn only_nodes_are_missing() {
    let cluster = TestCluster::start().await;
    let mut client = Client::new(cluster.channel().await);
    create_tenant(&mut client, "lww", "").await;
    let status = client
        .write_key_value(write("lww", "k", "v"))
        .await
        .unwrap_err();
    let details = status.get_error_details();
    let metadata = &details.error_info().unwrap().metadata;
    assert_eq!(metadata["missing"], "");
    assert!(
        status.message().contains("the cluster has no storage node"),
        "{status:?}"
    );
}

#[tokio::test]
async fn a_write_goes_on_when_its_client_hangs_up() {
    let (cluster, mut client) = cluster().await;
    cluster.slow_down(Duration::from_millis(300));
    let all = v1::WriteKeyValueRequest {
        consistency: "all".into(),
        ..write("lww", "k", "v")
    };
    let mut writer = client.clone();
    tokio::select! {
        _ = writer.write_key_value(all) => panic!("its client hangs up before"),
        () = cluster.until_asked() => {}
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    cluster.slow_down(Duration::ZERO);
    cluster.cut_off(0);
    for n in [1, 2] {
        let found = client.read_key_value(v1::ReadKeyValueRequest {
            consistency: "one".into(),
            ..read("lww", "k")
        });
        assert_eq!(
            found.await.unwrap().into_inner().value.as_ref(),
            b"v",
            "read {n}"
        );
    }
}

/// Goes through all pages: keys, names of what differs, names of what was not compared.
async fn verified(client: &mut Client, tenant: &str) -> (u64, Vec<String>, Vec<String>) {
    let (mut keys, mut differing, mut unverified) = (0, Vec::new(), Vec::new());
    let mut after = Bytes::new();
    loop {
        let request = v1::VerifyPageRequest {
            tenant_id: tenant.into(),
            after,
        };
        let page = client.verify_page(request).await.unwrap().into_inner();
        keys += page.keys;
        for difference in page.differences {
            let states: Vec<_> = difference.owners.iter().map(|o| o.state.as_str()).collect();
            let (tenant, key) = (difference.tenant_id, difference.key);
            differing.push(format!("{tenant}/{key}: {}", states.join(" ")));
        }
        unverified.extend(page.unverified.into_iter().map(|missing| missing.name));
        after = page.next;
        if after.is_empty() {
            differing.sort();
            return (keys, differing, unverified);
        }
    }
}

#[tokio::test]
async fn verification_reads_all_owners_of_all_keys() {
    let (cluster, mut client) = cluster().await;
    for number in 0..7 {
        for tenant in ["lww", "siblings"] {
            let mut write = write(tenant, &format!("k{number}"), "v");
            write.consistency = "all".into();
            client.write_key_value(write).await.unwrap();
        }
    }
    assert_eq!(verified(&mut client, "").await, (14, vec![], vec![]));
    assert_eq!(verified(&mut client, "lww").await, (7, vec![], vec![]));

    cluster.forget(1, "k3").await;
    let (keys, differing, unverified) = verified(&mut client, "").await;
    assert_eq!((keys, unverified), (14, vec![]));
    assert_eq!(differing.len(), 2);
    for (found, key) in differing.iter().zip(["lww/k3: ", "siblings/k3: "]) {
        assert!(found.starts_with(key), "{found}");
        assert_eq!(found.matches("value").count(), 2, "{found}");
        assert_eq!(found.matches("nothing").count(), 1, "{found}");
    }

    cluster.cut_off(1);
    let (keys, differing, unverified) = verified(&mut client, "siblings").await;
    assert_eq!((keys, differing), (7, vec![]));
    assert_eq!(unverified, ["n2"]);

    let request = |tenant_id: &str, after: &'static [u8]| v1::VerifyPageRequest {
        tenant_id: tenant_id.into(),
        after: Bytes::from_static(after),
    };
    let status = client
        .verify_page(request("nobody", b""))
        .await
        .unwrap_err();
    assert_eq!(reason(&status), "TENANT_NOT_FOUND");
    let status = client.verify_page(request("", b"?")).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_REQUEST");
}
