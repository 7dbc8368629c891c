//! A disk that forgets what was not synced, made of a [recording](super::trace) of what a program did to its files.
//!
//! It is as forgetful as POSIX allows a disk to be:
//!
//! - Of a file there is what was written before its last sync began, if that had ended. That is so for its length, too.
//! - A name is there (or gone, or another file's) once the *directory* was synced after that. Who makes a directory
//!   has to sync the one that it is in.
//!
//! A disk may also keep more: [`Names::All`] is the other end, where every name was kept and of files only what was
//! synced. Then a file that was renamed into its place and not synced before is empty.
//!
//! What this is not: a file system. A call that changes files below the root and that is not known here fails the test.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::trace::{Call, Event};

/// What is kept of names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Names {
    /// What was synced.
    Synced,
    /// All.
    All,
}

/// The files below a directory that was there before, as they were at some time.
pub struct Disk {
    root: PathBuf,
    /// Files and directories by their number; the first one is the root.
    nodes: Vec<Node>,
    /// What is open in the one process that there is.
    open: BTreeMap<i64, Open>,
    /// Syncs that began, by what they sync: so many changes were made by then.
    syncing: BTreeMap<usize, usize>,
}

/// A file or directory: all changes since it was made, and how many of them are synced.
#[derive(Default)]
struct Node {
    is_directory: bool,
    changes: Vec<Change>,
    synced: usize,
    len: u64,
    names: BTreeMap<OsString, usize>,
}

#[derive(Clone)]
enum Change {
    Bytes {
        at: u64,
        bytes: Vec<u8>,
    },
    Len(u64),
    /// The name is this one's, or nobody's.
    Name(OsString, Option<usize>),
    /// As one step.
    Renamed {
        from: OsString,
        to: OsString,
        node: usize,
    },
}

#[derive(Clone)]
struct Open {
    node: usize,
    at: u64,
    appends: bool,
    path: PathBuf,
}

/// Changes files in ways that are not known here.
const UNKNOWN: [&str; 13] = [
    "writev",
    "pwritev",
    "pwritev2",
    "truncate",
    "copy_file_range",
    "sendfile",
    "splice",
    "msync",
    "symlink",
    "symlinkat",
    "openat2",
    "io_uring_setup",
    "sync_file_range",
];

impl Disk {
    /// What `root`, which was an empty directory, came to be by these events.
    pub fn after<'e>(root: &Path, events: impl IntoIterator<Item = &'e Event>) -> Self {
        let directory = Node {
            is_directory: true,
            ..Node::default()
        };
        let mut disk = Self {
            root: root.to_owned(),
            nodes: vec![directory],
            open: BTreeMap::new(),
            syncing: BTreeMap::new(),
        };
        for event in events {
            match event.returned {
                None => disk.begins(&event.call),
                Some(returned) if returned >= 0 => disk.ended(&event.call, returned),
                Some(_) => {} // it failed
            }
        }
        disk
    }

    /// Writes what is left of it after a loss of power into an empty directory.
    pub fn write_what_is_left(&self, names: Names, to: &Path) {
        self.write(0, names, to);
    }

    fn write(&self, node: usize, names: Names, to: &Path) {
        let node = &self.nodes[node];
        if node.is_directory {
            let kept = match names {
                Names::Synced => node.synced,
                Names::All => node.changes.len(),
            };
            for (name, node) in names_after(&node.changes[..kept]) {
                let to = to.join(name);
                if self.nodes[node].is_directory {
                    fs::create_dir(&to).expect("a directory");
                }
                self.write(node, names, &to);
            }
            return;
        }
        let file = File::create(to).expect("a file");
        for change in &node.changes[..node.synced] {
            match change {
                Change::Bytes { at, bytes } => file.write_all_at(bytes, *at),
                Change::Len(len) => file.set_len(*len),
                Change::Name(..) | Change::Renamed { .. } => {
                    unreachable!("a file has no names in it")
                }
            }
            .expect("room");
        }
    }

    fn begins(&mut self, call: &Call) {
        if let "fsync" | "fdatasync" = &call.name[..]
            && let Some(open) = self.open.get(&call.number(0))
        {
            let node = open.node;
            self.syncing.insert(node, self.nodes[node].changes.len());
        }
    }

    fn ended(&mut self, call: &Call, returned: i64) {
        match &call.name[..] {
            "open" => self.opened(returned, call.path(0), call.argument(1)),
            "creat" => self.opened(returned, call.path(0), "O_CREAT|O_TRUNC"),
            "openat" => self.opened(returned, self.path_at(call, 0), call.argument(2)),
            "close" => drop(self.open.remove(&call.number(0))),
            "dup" | "dup2" | "dup3" => self.duplicated(call.number(0), returned),
            "fcntl" if call.argument(1).starts_with("F_DUPFD") => {
                self.duplicated(call.number(0), returned)
            }
            "lseek" => self.moves(call.number(0), |open| open.at = returned.unsigned_abs()),
            "read" | "readv" => {
                self.moves(call.number(0), |open| open.at += returned.unsigned_abs())
            }
            "write" => self.wrote(call, returned, None),
            "pwrite64" => self.wrote(call, returned, Some(call.number(3).unsigned_abs())),
            "ftruncate" => self.set_len(call.number(0), call.number(1).unsigned_abs()),
            "fallocate" => self.allocated(call),
            "fsync" | "fdatasync" => self.synced(call.number(0)),
            "sync" | "syncfs" => panic!("nothing of ours syncs everything: {call:?}"),
            "rename" => self.renamed(&call.path(0), &call.path(1)),
            "renameat" | "renameat2" => {
                self.renamed(&self.path_at(call, 0), &self.path_at(call, 2))
            }
            "link" => self.linked(&call.path(0), &call.path(1)),
            "linkat" => self.linked(&self.path_at(call, 0), &self.path_at(call, 2)),
            "unlink" | "rmdir" => self.named(&call.path(0), None),
            "unlinkat" => self.named(&self.path_at(call, 0), None),
            "mkdir" => self.made_directory(&call.path(0)),
            "mkdirat" => self.made_directory(&self.path_at(call, 0)),
            "mmap" => self.mapped(call),
            unknown if UNKNOWN.contains(&unknown) => {
                let files = call.arguments().iter().filter_map(|text| text.parse().ok());
                let is_ours = files
                    .into_iter()
                    .any(|file: i64| self.open.contains_key(&file));
                assert!(
                    !is_ours && unknown != "io_uring_setup",
                    "not known here: {call:?}"
                );
            }
            _ => {}
        }
    }

    fn opened(&mut self, file: i64, path: PathBuf, flags: &str) {
        let Some((directory, name)) = self.place(&path) else {
            // The root itself, or nothing of ours.
            if path == self.root {
                self.open.insert(
                    file,
                    Open {
                        node: 0,
                        at: 0,
                        appends: false,
                        path,
                    },
                );
            }
            return;
        };
        let node = match self.nodes[directory].names.get(&name) {
            Some(node) => *node,
            None => {
                let node = self.make(Node::default());
                self.change(directory, Change::Name(name, Some(node)));
                node
            }
        };
        let has = |flag| flags.split('|').any(|one| one == flag);
        if has("O_TRUNC") && self.nodes[node].len > 0 {
            self.change(node, Change::Len(0));
        }
        let appends = has("O_APPEND");
        self.open.insert(
            file,
            Open {
                node,
                at: 0,
                appends,
                path,
            },
        );
    }

    fn duplicated(&mut self, file: i64, copy: i64) {
        // They share one place in the file. Nothing of ours writes by place through two of them.
        if let Some(open) = self.open.get(&file).cloned() {
            self.open.insert(copy, open);
        }
    }

    fn moves(&mut self, file: i64, moves: impl FnOnce(&mut Open)) {
        if let Some(open) = self.open.get_mut(&file) {
            moves(open);
        }
    }

    fn wrote(&mut self, call: &Call, len: i64, place: Option<u64>) {
        let Some(open) = self.open.get_mut(&call.number(0)) else {
            return;
        };
        let at = match place {
            Some(at) => at,
            None if open.appends => self.nodes[open.node].len,
            None => open.at,
        };
        let mut bytes = call.bytes(1);
        bytes.truncate(usize::try_from(len).expect("a length"));
        if place.is_none() {
            open.at = at + bytes.len() as u64;
        }
        let node = open.node;
        self.change(node, Change::Bytes { at, bytes });
    }

    fn set_len(&mut self, file: i64, len: u64) {
        if let Some(open) = self.open.get(&file) {
            self.change(open.node, Change::Len(len));
        }
    }

    fn allocated(&mut self, call: &Call) {
        let Some(open) = self.open.get(&call.number(0)) else {
            return;
        };
        assert_eq!(call.argument(1), "0", "not known here: {call:?}");
        let end = (call.number(2) + call.number(3)).unsigned_abs();
        if end > self.nodes[open.node].len {
            self.change(open.node, Change::Len(end));
        }
    }

    fn synced(&mut self, file: i64) {
        let Some(open) = self.open.get(&file) else {
            return;
        };
        if let Some(changes) = self.syncing.get(&open.node) {
            let node = &mut self.nodes[open.node];
            node.synced = node.synced.max(*changes);
        }
    }

    fn mapped(&self, call: &Call) {
        let Some(open) = call
            .argument(4)
            .parse()
            .ok()
            .and_then(|file: i64| self.open.get(&file))
        else {
            return;
        };
        let writes =
            call.argument(2).contains("PROT_WRITE") && call.argument(3).contains("MAP_SHARED");
        // SQLite's index of its log is made anew at each start.
        let is_kept = !open.path.as_os_str().as_encoded_bytes().ends_with(b"-shm");
        assert!(!(writes && is_kept), "not known here: {call:?}");
    }

    fn renamed(&mut self, from: &Path, to: &Path) {
        let (from_place, to_place) = (self.place(from), self.place(to));
        let (Some((before, from)), Some((after, to))) = (from_place, to_place) else {
            assert!(
                !from.starts_with(&self.root) && !to.starts_with(&self.root),
                "{from:?} goes to {to:?}"
            );
            return;
        };
        let node = self.nodes[before].names[&from];
        if before == after {
            return self.change(before, Change::Renamed { from, to, node });
        }
        self.change(after, Change::Name(to, Some(node)));
        self.change(before, Change::Name(from, None));
    }

    fn linked(&mut self, from: &Path, to: &Path) {
        if let Some((directory, name)) = self.place(from) {
            let node = self.nodes[directory].names[&name];
            self.named(to, Some(node));
        }
    }

    fn named(&mut self, path: &Path, node: Option<usize>) {
        if let Some((directory, name)) = self.place(path) {
            self.change(directory, Change::Name(name, node));
        }
    }

    fn made_directory(&mut self, path: &Path) {
        if self.place(path).is_some() {
            let node = self.make(Node {
                is_directory: true,
                ..Node::default()
            });
            self.named(path, Some(node));
        }
    }

    fn make(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn change(&mut self, node: usize, change: Change) {
        let node = &mut self.nodes[node];
        match &change {
            Change::Bytes { at, bytes } => node.len = node.len.max(at + bytes.len() as u64),
            Change::Len(len) => node.len = *len,
            Change::Name(..) | Change::Renamed { .. } => apply(&mut node.names, &change),
        }
        node.changes.push(change);
    }

    /// The directory that a path below the root is in, and its name there.
    fn place(&self, path: &Path) -> Option<(usize, OsString)> {
        let below = path.strip_prefix(&self.root).ok()?;
        let name = below.file_name()?.to_owned();
        let mut directory = 0;
        for part in below.parent().into_iter().flatten() {
            directory = *self.nodes[directory].names.get(part)?;
        }
        Some((directory, name))
    }

    /// The path in argument `n` + 1, from the directory in argument `n` on.
    fn path_at(&self, call: &Call, n: usize) -> PathBuf {
        let path = call.path(n + 1);
        let from = call.argument(n).parse().ok();
        match from.and_then(|from: i64| self.open.get(&from)) {
            Some(from) => from.path.join(path),
            None => path,
        }
    }
}

fn names_after(changes: &[Change]) -> BTreeMap<OsString, usize> {
    let mut names = BTreeMap::new();
    changes.iter().for_each(|change| apply(&mut names, change));
    names
}

fn apply(names: &mut BTreeMap<OsString, usize>, change: &Change) {
    match change {
        Change::Name(name, Some(node)) => drop(names.insert(name.clone(), *node)),
        Change::Name(name, None) => drop(names.remove::<OsStr>(name)),
        Change::Renamed { from, to, node } => {
            names.remove::<OsStr>(from);
            names.insert(to.clone(), *node);
        }
        Change::Bytes { .. } | Change::Len(_) => {}
    }
}
