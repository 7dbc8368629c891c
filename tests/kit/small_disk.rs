//! A disk that can be filled.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::program::PROGRAM;
use super::{Program, not_tried};

/// As a user who is root in a namespace of its own, which systems allow or don't; or else as root.
const WAYS: [&[&str]; 2] = [&["--user", "--map-root-user"], &[]];

/// A memory disk that only a process of its own sees, and those that it lets in.
pub struct SmallDisk {
    holder: Child,
    directory: TempDir,
    /// Whether it is in a user namespace.
    of_user: bool,
}

impl SmallDisk {
    /// Of so many MiB. `None` where the system does not let tests have one, which is said, and fails in CI.
    pub fn new(mib: u64) -> Option<Self> {
        let mut ways = WAYS.iter().filter_map(|way| Self::mount(mib, way));
        let disk = ways.next();
        if disk.is_none() {
            not_tried("no disk can be filled here: neither mounts nor user namespaces are allowed");
        }
        disk
    }

    fn mount(mib: u64, way: &[&str]) -> Option<Self> {
        let directory = TempDir::new().expect("a temporary folder");
        let mut holder = Command::new("unshare");
        holder.args(way).args(["--mount", "sh", "-c"]);
        holder.arg("mount -t tmpfs -o size=\"$1\"m none \"$2\" && echo mounted && exec cat");
        holder.args(["sh", &mib.to_string()]).arg(directory.path());
        holder.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = holder.stderr(Stdio::null()).spawn().ok()?;
        let mut said = [0; 7];
        let stdout = holder.stdout.as_mut().expect("it is piped");
        let mounted = stdout.read_exact(&mut said).is_ok();
        let disk = Self {
            holder,
            directory,
            of_user: !way.is_empty(),
        };
        mounted.then_some(disk)
    }

    /// Where it is, as the programs on it see it.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `pairdb`, on this disk.
    pub fn program(&self, arguments: &[&str]) -> Program {
        let mut command = Command::new("nsenter");
        if self.of_user {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(["--mount", "--target"]);
        command.arg(self.holder.id().to_string()).arg(PROGRAM);
        Program::of(command).with(arguments)
    }

    /// Until nothing more fits, in blocks of these lengths one after another.
    pub fn fill(&self, block_lens: &[usize]) {
        let mut options = std::fs::File::options();
        let opened = options.create(true).append(true).open(self.filler());
        let mut filler = opened.expect("the disk is there");
        for len in block_lens {
            while filler.write_all(&vec![1; *len]).is_ok() {}
        }
    }

    /// There is room again.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        let (holder, directory) = (self.holder.id(), self.directory.path());
        format!("/proc/{holder}/root{}/filler", directory.display()).into()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
