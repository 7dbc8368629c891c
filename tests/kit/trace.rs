//! What a program asks of the system about files, in order, with every byte that it writes: recorded by strace.
//!
//! The program is slower for it and otherwise the same. What strace has seen the end of has happened before anything
//! that follows from it: the program goes on only after that.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{Program, not_tried, until};

/// All that makes, changes, names or syncs a file. Those with `?` are not on every kind of machine.
const CALLS: &str = "trace=?open,openat,?openat2,?creat,close,?dup2,dup,dup3,fcntl,lseek,read,readv,\
    write,writev,pwrite64,pwritev,?pwritev2,ftruncate,truncate,fallocate,copy_file_range,sendfile,splice,mmap,\
    fsync,fdatasync,sync_file_range,msync,sync,syncfs,\
    ?rename,renameat,renameat2,?link,linkat,?symlink,symlinkat,?unlink,unlinkat,?mkdir,mkdirat,?rmdir,io_uring_setup";

/// More than what is written here by one call. strace has room for four times that.
const BYTES_SHOWN_MAX: &str = "16777216";

/// Where a recording goes.
pub struct Recording {
    directory: TempDir,
}

/// A call, or what became of it.
#[derive(Debug)]
pub struct Event {
    /// Since 1970, by the clock of this machine.
    pub at: Duration,
    pub call: Call,
    /// `None` when it begins; calls that succeed return something that is not negative.
    pub returned: Option<i64>,
}

/// Its name, and its arguments as strace shows them.
#[derive(Clone, Debug)]
pub struct Call {
    pub name: String,
    arguments: Vec<String>,
}

impl Recording {
    /// `None` where the system lets nobody be traced, which is said, and fails in CI.
    pub fn new() -> Option<Self> {
        let mut probe = Command::new("strace");
        probe.args(["-f", "-e", "trace=fsync", "true"]);
        let probed = probe.stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !probed.is_ok_and(|status| status.success()) {
            not_tried(
                "what is synced can't be seen here: there is no strace, or it may trace nobody",
            );
            return None;
        }
        Some(Self {
            directory: TempDir::new().expect("a temporary folder"),
        })
    }

    /// What runs `program` under record. It stays the child of who starts it.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut strace = Command::new("strace");
        strace.args(["-D", "-f", "-qq", "--seccomp-bpf", "-ttt", "-T", "-xx"]);
        strace.args(["-s", BYTES_SHOWN_MAX, "-e", CALLS, "-e", "signal=none"]);
        strace.arg("-o").arg(self.file()).arg(program.as_ref());
        strace
    }

    /// The same for `pairdb`.
    pub fn program(&self, arguments: &[&str]) -> Program {
        Program::of(self.command(super::PROGRAM)).with(arguments)
    }

    /// All of it, once the program has ended.
    pub fn ended(self) -> Vec<Event> {
        until("the recorder ends with the program", || {
            let nobody_has = |process: &fs::DirEntry| {
                let has = fs::read_dir(process.path().join("fd"));
                let mut has = has.into_iter().flatten().flatten();
                !has.any(|file| fs::read_link(file.path()).is_ok_and(|file| file == self.file()))
            };
            let mut processes = fs::read_dir("/proc").expect("processes").flatten();
            processes.all(|process| nobody_has(&process)).then_some(())
        });
        let text = fs::read_to_string(self.file()).expect("strace made it");
        events(&text)
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("strace")
    }
}

/// A call that another thread's came in between is shown in two parts.
fn events(text: &str) -> Vec<Event> {
    let mut begun: BTreeMap<&str, String> = BTreeMap::new();
    let mut events = Vec::new();
    for line in text.lines() {
        let (thread, line) = line.split_once(' ').expect("a thread");
        let (at, line) = line.trim_start().split_once(' ').expect("a time");
        let at = seconds(at);
        if let Some(call) = line.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, call.to_owned());
            let call = Call::parse(call);
            events.push(Event {
                at,
                call,
                returned: None,
            });
        } else if let Some(rest) = line.strip_prefix("<... ") {
            let (_, rest) = rest.split_once(" resumed>").expect("its end");
            // Not there: it was under way when strace began.
            if let Some(begun) = begun.remove(thread) {
                events.extend(ended(at, Duration::ZERO, &(begun + rest)));
            }
        } else if let Some((_, took)) = line.rsplit_once(" <") {
            let took = seconds(took.trim_end_matches('>'));
            let end = ended(at, took, line);
            events.extend(end.as_ref().map(|end| Event {
                at,
                call: end.call.clone(),
                returned: None,
            }));
            events.extend(end);
        } // else: the end of a thread, or a call that the end of the program cut short
    }
    events
}

/// `name(arguments) = returned <took>`; `None` when the end of the program cut it short.
fn ended(at: Duration, took: Duration, line: &str) -> Option<Event> {
    let (call, returned) = line.rsplit_once(") ")?;
    let returned = returned.trim_start().strip_prefix("= ")?;
    let returned = returned.split(' ').next()?;
    let returned = match returned.strip_prefix("0x") {
        Some(address) => i64::from_str_radix(address, 16).unwrap_or(i64::MAX),
        None => returned.parse().ok()?, // `?`: it never returned
    };
    Some(Event {
        at: at + took,
        call: Call::parse(call),
        returned: Some(returned),
    })
}

impl Call {
    /// Texts are shown in hexadecimal, so a comma is always one between arguments.
    fn parse(text: &str) -> Self {
        let (name, arguments) = text.split_once('(').expect("a call");
        Self {
            name: name.to_owned(),
            arguments: arguments.split(", ").map(str::to_owned).collect(),
        }
    }

    /// As strace shows them.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    pub fn argument(&self, n: usize) -> &str {
        let argument = self.arguments.get(n);
        argument.unwrap_or_else(|| panic!("no argument {n}: {self:?}"))
    }

    #[track_caller]
    pub fn number(&self, n: usize) -> i64 {
        let number = self.argument(n).parse();
        number.unwrap_or_else(|_| panic!("argument {n} is no number: {self:?}"))
    }

    /// The bytes of a text.
    #[track_caller]
    pub fn bytes(&self, n: usize) -> Vec<u8> {
        let text = self.argument(n).strip_prefix('"');
        let text = text.and_then(|text| text.strip_suffix('"'));
        let text = text.unwrap_or_else(|| panic!("argument {n} is no whole text: {self:?}"));
        let byte = |hex: &str| u8::from_str_radix(hex, 16).expect("hexadecimal");
        text.split("\\x").skip(1).map(byte).collect()
    }

    #[track_caller]
    pub fn path(&self, n: usize) -> PathBuf {
        std::ffi::OsString::from_vec(self.bytes(n)).into()
    }
}

fn seconds(text: &str) -> Duration {
    let (seconds, micros) = text.split_once('.').expect("seconds");
    let number = |text: &str| text.parse().expect("a number");
    Duration::from_secs(number(seconds)) + Duration::from_micros(number(micros))
}
