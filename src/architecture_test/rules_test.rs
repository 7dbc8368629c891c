//! What the rules must find, and what they must let pass.

use super::*;

fn lines(path: &str, text: &str) -> Vec<usize> {
    let dependencies = ["tokio", "rand", "bytes", "sqlx"].map(str::to_owned).into();
    let breaches = Rules { dependencies }.breaches(path, text);
    let line = |breach: &String| {
        breach
            .strip_prefix(path)?
            .strip_prefix(':')?
            .split(':')
            .next()?
            .parse()
            .ok()
    };
    breaches
        .iter()
        .map(|breach| line(breach).unwrap_or_else(|| panic!("no line: {breach}")))
        .collect()
}

#[test]
fn find_every_breach_and_name_its_line() {
    let bad = [
        "//! Everything the core may not do.",
        "use std::collections::{BTreeMap, HashMap};",
        "use std::{sync::Arc, time::{Duration, Instant}};",
        "use crate::adapters::memory::MemoryMetadata;",
        "use crate::{version::Dot, replica::Replica};",
        "use super::super::api::Server;",
        "fn f() { tokio::spawn(async {}); }",
        "fn g() -> u64 { rand::random() }",
        "fn h() { ::std::thread::sleep(D) }",
        "fn i(x: &std::collections::HashSet<u8>) {}",
        "fn j() { futures::select! { _ = a => {} } }",
        "use std::net::TcpStream;",
        "fn k() -> S { SystemTime::now() }",
        "use std::",
        "    fs;",
        "#[cfg(madsim)] fn l() {}",
    ];
    let found = lines("src/coordinator/bad.rs", &bad.join("\n"));
    assert_eq!(found, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16]);
}

#[test]
fn let_pass_what_is_allowed() {
    let good = r###"//! Says `use tokio::spawn;` and means no harm.
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;
use bytes::Bytes;
use crate::{ports::{Clock, Instant}, quorum::Tally as Count};
use super::settings::CoordinatorSettings;
/* use rand::rng; /* use std::fs; */ use std::thread; */
const TEXT: &str = "use std::fs; \" HashMap";
const RAW: &str = r#"tokio::spawn("HashMap")"#;
const QUOTE: char = '"';
fn lifetimes<'a>(x: &'a str) -> &'a str { clock.now(); x.tokio::<u8>() }
fn select() { futures::select_biased! { _ = a => {} } }
#[cfg(test)]
#[path = "good_test.rs"]
mod tests;
#[cfg(test)]
mod more { use tokio::spawn; fn f() { if x { std::thread::sleep(D) } } }
#[cfg(test)]
fn only_in_tests(x: [u8; 3]) { rand::random() }
"###;
    assert_eq!(lines("src/coordinator/good.rs", good), [0; 0]);
}

#[test]
fn code_after_a_string_or_a_test_is_read_again() {
    let bad =
        "//! x\nconst A: &str = \"\\\\\";\nuse std::fs;\n#[cfg(test)]\nmod t { }\nuse std::fs;\n";
    assert_eq!(lines("src/version/bad.rs", bad), [3, 6]);
}

#[test]
fn every_layer_is_held_to_its_own_imports() {
    let import = |path: &str, of: &str| lines(path, &format!("//! x\nuse crate::{of}::X;\n"));
    let forbidden = [
        ("version", "placement"),
        ("placement", "version"),
        ("quorum", "ports"),
        ("ports", "coordinator"),
        ("coordinator", "replica"),
        ("replica", "coordinator"),
        ("adapters", "coordinator"),
        ("adapters", "replica"),
        ("api", "replica"),
        ("api", "cli"),
        ("config", "cli"),
    ];
    for (layer, of) in forbidden {
        assert_eq!(
            import(&format!("src/{layer}/x.rs"), of),
            [2],
            "{layer} imports {of}"
        );
        assert_eq!(import(&format!("src/{layer}/x.rs"), layer), [0; 0]);
    }
    for layer in ["quorum", "ports", "replica", "api", "cli"] {
        assert_eq!(
            import(&format!("src/{layer}/mod.rs"), "version"),
            [0; 0],
            "{layer} imports version"
        );
    }
    let by_super = "//! x\nuse super::coordinator::X;\nuse super::version::X;\n";
    assert_eq!(lines("src/replica/mod.rs", by_super), [2]);
    assert_eq!(
        lines("src/replica/below.rs", by_super),
        [0; 0],
        "these are its neighbours"
    );
}

#[test]
fn a_new_folder_needs_a_place() {
    assert_eq!(lines("src/utils/x.rs", "//! x\n"), [1]);
}

#[test]
fn a_file_needs_a_header() {
    assert!(headless("src/version/x.rs", "// x\n").is_some());
    assert_eq!(headless("src/version/x.rs", "//! x\n"), None);
}

#[test]
fn modules_that_only_tests_see_are_known() {
    let source =
        Source::read("#[cfg(test)]\n#[path = \"x\"]\npub(crate) mod sample;\nmod product;\n");
    assert_eq!(source.module.test_modules, ["sample"]);
    assert!(Source::read("//! x\n#![cfg(test)]\n").is_test);
}
