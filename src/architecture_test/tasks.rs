//! Everything that runs beside requests, and what becomes of the process when it ends: all threads and tasks that
//! adapters, fronts and commands start. (The core starts its own by `ports::Spawn`, of which `keep` is for what must
//! not end.)
//!
//! Nothing may end and leave a process that looks well. So whatever is to last is *kept*: its end is the process's end
//! (`adapters/vitals.rs`). All else belongs to somebody who waits for it, or whose failure it is.

/// The file, how many starts there are in it, and what their ends are.
const STARTS: &[(&str, usize, &str)] = &[
    (
        "src/adapters/files.rs",
        1,
        "one look at files; the next one follows",
    ),
    (
        "src/adapters/fjall/mod.rs",
        1,
        "kept: the engine's own threads",
    ),
    ("src/adapters/front/serve.rs", 1, "one connection"),
    ("src/adapters/grpc/peer.rs", 1, "kept"),
    (
        "src/adapters/grpc/server.rs",
        1,
        "one stream of a coordinator, which is closed then",
    ),
    ("src/adapters/grpc/transport.rs", 1, "kept"),
    ("src/adapters/memory/transport.rs", 1, "one request"),
    ("src/adapters/postgres/watch.rs", 1, "kept"),
    (
        "src/adapters/sqlite/committer.rs",
        2,
        "kept; and one look at the reserve, which is waited for",
    ),
    ("src/adapters/sqlite/watch.rs", 1, "kept"),
    (
        "src/adapters/tls/listener.rs",
        2,
        "one connection that is being made",
    ),
    (
        "src/adapters/tls/live.rs",
        2,
        "kept; and one making of a certificate, which is waited for",
    ),
    (
        "src/adapters/tokio/spawn.rs",
        2,
        "the port: one that is kept, one whose end is nobody's",
    ),
    ("src/adapters/trace/export.rs", 1, "the end of the process"),
    ("src/api/auth/authority.rs", 2, "kept"),
    ("src/api/coordinator_service.rs", 1, "one request"),
    (
        "src/cli/bench/load.rs",
        1,
        "a client of the measurement, which waits for it",
    ),
    (
        "src/cli/bench/server.rs",
        1,
        "a command that the measurement starts",
    ),
    ("src/cli/dev/cluster.rs", 1, "kept"),
    ("src/cli/dev/wishes.rs", 1, "kept"),
    (
        "src/cli/serve/coordinator.rs",
        3,
        "a front: its end is the process's",
    ),
    ("src/cli/serve/metrics.rs", 1, "kept"),
    ("src/cli/serve/signal.rs", 1, "its end is a signal to stop"),
    (
        "src/cli/serve/storage_node.rs",
        3,
        "the front: its end is the process's; opening and closing, which are waited for",
    ),
    ("src/cli/storage.rs", 1, "kept"),
];

/// Who starts something otherwise than is known.
pub fn breaches<'f>(product: impl Iterator<Item = (&'f str, &'f str)>) -> Vec<String> {
    let is_outside = |path: &str| {
        ["src/adapters/", "src/api/", "src/cli/"]
            .iter()
            .any(|it| path.starts_with(it))
    };
    let found = product.filter(|(path, _)| is_outside(path));
    let found: Vec<(&str, usize)> = found
        .map(|(path, text)| (path, starts(text)))
        .filter(|(_, starts)| *starts > 0)
        .collect();
    let of = |starts: &(&str, usize)| {
        format!(
            "{}: {} threads or tasks are started here",
            starts.0, starts.1
        )
    };
    let known: Vec<(&str, usize)> = STARTS
        .iter()
        .map(|(path, starts, _)| (*path, *starts))
        .collect();
    let news = found.iter().filter(|it| !known.contains(it));
    let gone = known.iter().filter(|it| !found.contains(it));
    let news = news.map(|it| format!("{}, which architecture_test/tasks.rs does not know", of(it)));
    let gone = gone.map(|it| format!("{} no more, as architecture_test/tasks.rs has it", of(it)));
    news.chain(gone).collect()
}

/// Calls that start something, before the tests of a file.
fn starts(text: &str) -> usize {
    let code = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    let code = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let calls = [
        "tokio::spawn(",
        "spawn_blocking(",
        "thread::spawn(",
        ".spawn(",
    ];
    code.map(|line| {
        calls
            .iter()
            .map(|call| line.matches(call).count())
            .sum::<usize>()
    })
    .sum()
}
