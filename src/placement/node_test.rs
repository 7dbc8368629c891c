//! What a node's description may be, and how it is written.

use super::*;
use crate::placement::sample::node;

#[test]
fn ids_are_printable_and_bounded() {
    for good in ["n", "node-1", "10.0.0.1:50052", "a/b", &"x".repeat(255)] {
        assert_eq!(NodeId::new(good).unwrap().as_str(), good);
    }
    for bad in ["", "a b", "a#1", "a\n", "a\0", "nöde", &"x".repeat(256)] {
        assert_eq!(NodeId::new(bad), Err(InvalidNode::Id), "{bad:?}");
    }
}

#[test]
fn an_id_is_checked_on_the_way_in() {
    let id: NodeId = serde_json::from_str("\"node-1\"").unwrap();
    assert_eq!(id.to_string(), "node-1");
    assert_eq!(serde_json::to_string(&id).unwrap(), "\"node-1\"");
    assert!(serde_json::from_str::<NodeId>("\"node#1\"").is_err());
}

#[test]
fn every_form_of_a_status_has_the_same_name() {
    for status in NodeStatus::ALL {
        let name = status.as_str();
        assert_eq!(name.parse(), Ok(status));
        assert_eq!(serde_json::to_value(status).unwrap(), name);
        assert_eq!(
            serde_json::from_value::<NodeStatus>(name.into()).unwrap(),
            status
        );
    }
    assert_eq!("up".parse::<NodeStatus>(), Err(UnknownNodeStatus));
}

#[test]
fn a_node_reads_as_it_is_written() {
    let written = serde_json::to_string(&node("node-1")).unwrap();
    insta::assert_snapshot!(written, @r#"{"id":"node-1","host":"node-1","port":50052,"virtual_nodes":150,"status":"active"}"#);
    assert_eq!(
        serde_json::from_str::<Node>(&written).unwrap(),
        node("node-1")
    );
}

#[test]
fn hosts_are_names_or_addresses() {
    let check = |host: &str| {
        let host = host.to_owned();
        Node { host, ..node("n") }.validate()
    };
    for good in [
        "localhost",
        "node-1.pairdb.svc",
        "10.0.0.1",
        "::1",
        "fe80::1",
    ] {
        assert_eq!(check(good), Ok(()), "{good}");
    }
    let bad = [
        "",
        "a b",
        "[::1]",
        "a:80",
        "user@host",
        "host/path",
        "a\n",
        "ü",
    ];
    for bad in bad.into_iter().chain([&*"x".repeat(256)]) {
        assert_eq!(check(bad), Err(InvalidNode::Host), "{bad:?}");
    }
}

#[test]
fn ports_and_weights_are_bounded() {
    let with_port = |port| Node { port, ..node("n") }.validate();
    assert_eq!(with_port(0), Err(InvalidNode::Port));
    assert_eq!(with_port(1), Ok(()));
    let with_weight = |virtual_nodes| {
        Node {
            virtual_nodes,
            ..node("n")
        }
        .validate()
    };
    assert_eq!(with_weight(0), Err(InvalidNode::VirtualNodes(0)));
    assert_eq!(with_weight(1), Ok(()));
    assert_eq!(with_weight(MAX_VIRTUAL_NODES), Ok(()));
    assert_eq!(with_weight(4097), Err(InvalidNode::VirtualNodes(4097)));
}

#[test]
fn zones_and_seats_are_printable_and_bounded() {
    let with_zone = |zone: &str| {
        let zone = Some(zone.to_owned());
        Node { zone, ..node("n") }.validate()
    };
    let with_seat = |seat: &str| {
        let seat = Some(seat.to_owned());
        Node { seat, ..node("n") }.validate()
    };
    for good in ["z", "rack-1", "eu/west:1#2", &"x".repeat(255)] {
        assert_eq!(
            (with_zone(good), with_seat(good)),
            (Ok(()), Ok(())),
            "{good}"
        );
    }
    for bad in ["", "a b", "a\n", "a\0", "zöne", &"x".repeat(272)] {
        assert_eq!(with_zone(bad), Err(InvalidNode::Zone), "{bad:?}");
        assert_eq!(with_seat(bad), Err(InvalidNode::Seat), "{bad:?}");
    }
    assert_eq!(with_zone(&"x".repeat(256)), Err(InvalidNode::Zone));
    // The longest name with a number behind it is a seat.
    assert_eq!(
        with_seat(&format!("{}#{}", "x".repeat(255), u32::MAX)),
        Ok(())
    );
}

#[test]
fn a_seat_is_a_nodes_own_name_unless_it_has_another_one() {
    let seat = Some("node-0".to_owned());
    assert_eq!(node("node-1").seat(), "node-1");
    let seated = Node {
        seat,
        ..node("node-1")
    };
    assert_eq!(seated.seat(), "node-0");
}

#[test]
fn a_node_with_a_zone_and_a_seat_reads_as_it_is_written() {
    let full = Node {
        zone: Some("rack-1".to_owned()),
        seat: Some("node-0".to_owned()),
        ..node("node-1")
    };
    let written = serde_json::to_string(&full).unwrap();
    insta::assert_snapshot!(written, @r#"{"id":"node-1","host":"node-1","port":50052,"virtual_nodes":150,"status":"active","zone":"rack-1","seat":"node-0"}"#);
    assert_eq!(serde_json::from_str::<Node>(&written).unwrap(), full);
}

#[test]
fn an_ipv6_address_gets_brackets() {
    let at = |host: &str| {
        let host = host.to_owned();
        Node { host, ..node("n") }.address()
    };
    assert_eq!(at("10.0.0.1"), "10.0.0.1:50052");
    assert_eq!(at("storage-0"), "storage-0:50052");
    assert_eq!(at("::1"), "[::1]:50052");
}
