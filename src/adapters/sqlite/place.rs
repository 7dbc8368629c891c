//! Where the file lies: only its owner may read what is there, and room is kept to open it on a full disk.
//!
//! SQLite says "unable to open database file" whatever is wrong with a directory. So the file is opened here first,
//! which tells what is wrong with it in the system's words.
//!
//! The *reserve* is a file beside it. SQLite can't open a file for reading without making the index of its log, some
//! ten kilobytes, when the disk is full: then the reserve is given up, and made again when there is room.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::adapters::directories;

/// Holds the index of a log of some ten thousand pages, and the log's beginning.
const RESERVE_LEN: usize = 256 * 1024;

/// What the file can't be used for, and why.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}: {cause}", path.display())]
pub struct PlaceError {
    what: &'static str,
    path: PathBuf,
    cause: io::Error,
}

/// Makes the file and its directory if need be, for their owner only; takes others' rights from what is there already.
///
/// # Errors
/// When the directory can't be made or written to, or the file can't be written to.
pub fn place(file: &Path) -> Result<(), PlaceError> {
    let directory = match file.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |cause| PlaceError { what, path, cause }
    };
    let made = directories::make(directory, 0o700);
    made.map_err(failed("can't make the directory", directory))?;
    let is_there = file.exists();
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(file);
    opened.map_err(match is_there {
        true => failed("can't read and write the file", file),
        false => failed("can't make a file in the directory", directory),
    })?;
    for part in ["", "-wal", "-shm"] {
        hide(&beside(file, part));
    }
    Ok(())
}

/// Makes the reserve, if there is none and there is room.
pub(super) fn keep_reserve(file: &Path) {
    let reserve = beside(file, "-reserve");
    let is_whole = |meta: fs::Metadata| meta.len() == RESERVE_LEN as u64;
    if fs::metadata(&reserve).is_ok_and(is_whole) {
        return;
    }
    let mut made = OpenOptions::new();
    made.write(true).create(true).truncate(true).mode(0o600);
    let written = made
        .open(&reserve)
        .and_then(|mut made| made.write_all(&[0; RESERVE_LEN]));
    if written.is_err() {
        let _ = fs::remove_file(&reserve); // half of it is of no use
    }
}

/// Gives the reserve's room to who comes next. Returns whether there was any.
pub(super) fn give_up_reserve(file: &Path) -> bool {
    fs::remove_file(beside(file, "-reserve")).is_ok()
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Takes others' rights from a file of this user's.
fn hide(file: &Path) {
    let Ok(meta) = fs::metadata(file) else {
        return; // not there
    };
    if meta.permissions().mode() & 0o077 != 0
        && let Err(error) = fs::set_permissions(file, Permissions::from_mode(0o600))
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(file = %file.display(), %error, "others of this machine may read the file");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_its_owners_and_what_was_there_becomes_so() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("deep/down/a.sqlite");
        place(&file).unwrap();
        assert_eq!(mode(&directory.path().join("deep")), 0o700);
        assert_eq!(mode(&directory.path().join("deep/down")), 0o700);
        assert_eq!(mode(&file), 0o600);
        let log = beside(&file, "-wal");
        fs::write(&log, "").unwrap();
        for open in [&file, &log] {
            fs::set_permissions(open, Permissions::from_mode(0o644)).unwrap();
        }
        place(&file).unwrap();
        assert_eq!((mode(&file), mode(&log)), (0o600, 0o600));
    }

    #[test]
    fn what_is_wrong_is_said_of_the_path_that_it_is_wrong_with() {
        let directory = tempfile::tempdir().unwrap();
        let occupied = directory.path().join("occupied");
        fs::write(&occupied, "").unwrap();
        let said = |file: &Path| place(file).unwrap_err().to_string();
        let nowhere = said(&occupied.join("a.sqlite"));
        assert!(
            nowhere.starts_with(&format!("can't make the directory {}", occupied.display())),
            "{nowhere}"
        );
        // Nobody makes files there, whoever runs this.
        let refused = said(Path::new("/sys/a.sqlite"));
        assert!(
            refused.starts_with("can't make a file in the directory /sys: "),
            "{refused}"
        );
        let no_file = said(directory.path());
        assert!(
            no_file.starts_with("can't read and write the file "),
            "{no_file}"
        );
    }

    #[test]
    fn the_reserve_is_there_until_it_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.sqlite");
        assert!(!give_up_reserve(&file));
        keep_reserve(&file);
        keep_reserve(&file);
        assert!(give_up_reserve(&file));
        assert!(!give_up_reserve(&file));
    }
}
