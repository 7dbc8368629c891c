//! What the engine's errors mean.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::ports::StorageError;

/// Why the engine did not open.
#[derive(Debug, thiserror::Error)]
pub enum FjallOpenError {
    /// Another process has it open.
    #[error("the data directory {} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It can't be read or written.
    #[error("the data directory {} can't be opened: {cause}", path.display())]
    Failed {
        /// The directory.
        path: PathBuf,
        /// The system's own words.
        cause: io::Error,
    },
    /// A newer version of this program wrote it.
    #[error(
        "the data in {} is in format {found} of the storage engine, which a newer version of pairdb wrote; this one \
         understands {understood}",
        path.display()
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The format.
        found: u8,
        /// The newest format that this program understands.
        understood: u8,
    },
    /// What is in it can't be made out.
    #[error("the data in {} is damaged: {cause}", path.display())]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// The engine's own words.
        cause: String,
    },
}

impl FjallOpenError {
    pub(super) fn failed(path: &Path, cause: io::Error) -> Self {
        let path = path.into();
        Self::Failed { path, cause }
    }

    pub(super) fn from_engine(path: &Path, error: fjall::Error) -> Self {
        match error {
            fjall::Error::Locked => Self::InUse { path: path.into() },
            fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error))
                if !is_damage(&error) =>
            {
                Self::failed(path, error)
            }
            other => Self::damaged(path, describe(&other)),
        }
    }

    pub(super) fn panicked(path: &Path) -> Self {
        Self::damaged(path, "the engine gave up; see the log".into())
    }

    fn damaged(path: &Path, cause: String) -> Self {
        let path = path.into();
        Self::Damaged { path, cause }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn way_out(&self) -> &'static str {
        const DESCRIPTORS: [Errno; 2] = [Errno::MFILE, Errno::NFILE];
        let Self::Failed { cause, .. } = self else {
            return match self {
                Self::InUse { .. } => {
                    "stop the pairdb that runs on it; --data (storage.data_dir) names another directory"
                }
                Self::Newer { .. } => {
                    "start the version that wrote it, or a newer one; there is no way back with this data, but the node's \
                     other owners refill an empty directory: see deploy/runbooks/upgrade.md"
                }
                _ => {
                    "move the directory away and start with an empty one: the node's other owners give it back what they \
                     have; see 'Its data is damaged' in deploy/runbooks/storage-node.md"
                }
            };
        };
        let errno = Errno::from_io_error(cause);
        match cause.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                "the user that runs this must be able to write to it and all that is in it (chown -R); --data \
                 (storage.data_dir) names another directory"
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room on its disk",
            _ if errno.is_some_and(|errno| DESCRIPTORS.contains(&errno)) => {
                "let the process have more files open (ulimit -n, LimitNOFILE)"
            }
            _ => {
                "look at the disk and the kernel's log; --data (storage.data_dir) names another directory"
            }
        }
    }
}

/// Whether the system found nothing wrong, but the engine did not find what should be there.
fn is_damage(error: &io::Error) -> bool {
    error.raw_os_error().is_none()
        || matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::NotFound)
}

/// A failure of the engine while it ran. A full disk that the engine itself ran into is a failure too: it may have
/// written the entry or not, and takes no more.
pub(super) fn failed(error: &fjall::Error) -> StorageError {
    StorageError::Failed(describe(error))
}

fn describe(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Poisoned => "it stopped after an earlier failure; see the log".into(),
        fjall::Error::Io(error) => describe_io(error),
        fjall::Error::Storage(fjall::LsmError::Io(error)) => describe_io(error),
        other => format!("{other:?}"),
    }
}

fn describe_io(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            format!("the disk is full ({error}); make room")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_system(errno: Errno) -> FjallOpenError {
        let error = io::Error::from_raw_os_error(errno.raw_os_error());
        FjallOpenError::from_engine(Path::new("/data"), fjall::Error::Io(error))
    }

    #[test]
    fn the_way_out_is_that_of_the_cause() {
        for (errno, way_out) in [
            (Errno::ACCESS, "chown"),
            (Errno::ROFS, "chown"),
            (Errno::NOSPC, "make room"),
            (Errno::MFILE, "LimitNOFILE"),
            (Errno::IO, "kernel's log"),
        ] {
            let error = of_system(errno);
            assert!(
                error.way_out().contains(way_out),
                "{error}: {}",
                error.way_out()
            );
            assert!(
                error
                    .to_string()
                    .starts_with("the data directory /data can't be opened: ")
            );
        }
        let damaged = FjallOpenError::from_engine(Path::new("/data"), fjall::Error::Unrecoverable);
        assert!(damaged.way_out().contains("empty one"), "{damaged}");
        let eof = fjall::Error::Io(ErrorKind::UnexpectedEof.into());
        let damaged = FjallOpenError::from_engine(Path::new("/data"), eof);
        assert!(
            damaged
                .to_string()
                .starts_with("the data in /data is damaged: "),
            "{damaged}"
        );
    }
}
