//! Every commit has a number, one more than the one before it, that is stored with it and after it.
//!
//! With it, in the same journal entry, so the engine can say which was the last one it has. After it, in a small file
//! of its own, the *mark*, before the commit is acknowledged. An engine that has less than the mark says has lost what
//! was acknowledged.
//!
//! What the mark costs is one write of a few bytes to the system's memory for each journal entry. It gets to the disk
//! once a second, for a sync each time would cost as much again as the commit's own. So
//!
//! - after the end of the process, whatever ended it, the mark is exact, and says so by the boot of the machine;
//! - after the loss of power it may be behind by that second. What was damaged within it is found by the journal's own
//!   form (see [`journal`](super::journal)), unless it is the very last entry, which can't be told from one that was
//!   being written;
//! - it is never ahead, where commits are synced before they are acknowledged.
//!
//! | bytes of one of two places, used in turn | what |
//! |---|---|
//! | 8 | `pairdbAK` |
//! | 8 | how often the mark was written, big endian: the greater one is the newer |
//! | 8 | the number, big endian |
//! | 8 | the boot of the machine that it was written in, big endian; 0: unknown |
//! | 1 | 1: what was acknowledged is known to be lost, and nothing was committed since |
//! | 4 | crc32c of all before, little endian |

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Where an entry has its number.
pub(super) const KEY: &[u8] = b"\xffpairdb commit number";
const FILE: &str = "acknowledged";
const MAGIC: [u8; 8] = *b"pairdbAK";
const LEN: usize = 8 + 8 + 8 + 8 + 1 + 4;
/// A random name that the system has for the time from its start to its end.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// Far enough apart that one write can't tear both.
const PLACES: [u64; 2] = [0, 4096];

/// What an entry says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Numbered {
    pub(super) number: u64,
    /// The number of the entry before it. It is not one less where what was between the two is known to be lost.
    pub(super) previous: u64,
}

impl Numbered {
    /// What is stored under [`KEY`].
    pub(super) fn encode(self) -> [u8; 16] {
        let mut value = [0; 16];
        value[..8].copy_from_slice(&self.number.to_be_bytes());
        value[8..].copy_from_slice(&self.previous.to_be_bytes());
        value
    }

    /// What an item says, if it is the one that has it.
    pub(super) fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let (number, previous) = value.split_first_chunk::<8>().filter(|_| key == KEY)?;
        Some(Self {
            number: u64::from_be_bytes(*number),
            previous: u64::from_be_bytes(previous.try_into().ok()?),
        })
    }
}

/// What the mark says.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Acknowledged {
    /// Commits up to this one were acknowledged.
    pub(super) number: u64,
    /// Some of them are known to be lost.
    pub(super) is_lossy: bool,
}

/// The file.
pub(super) struct Mark {
    file: File,
    /// How often it was written.
    written: u64,
    boot: u64,
}

/// What is in one of the two places.
#[derive(Clone, Copy)]
struct Written {
    /// How often the mark was written before and with this.
    written: u64,
    acknowledged: Acknowledged,
    boot: u64,
}

/// What was found in the place of the mark.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// What it says.
    Says {
        /// What it says.
        acknowledged: Acknowledged,
        /// Whether nothing that was written to it since can be missing.
        is_exact: bool,
    },
    /// There was none.
    Nothing,
    /// It can't be read.
    Unreadable,
}

impl Mark {
    /// Opens the mark of a data directory, and makes it if there is none.
    pub(super) fn open(directory: &Path) -> io::Result<(Self, Found)> {
        let path = directory.join(FILE);
        let boot = boot();
        let (found, written) = match File::open(&path) {
            Ok(file) => match read(&file) {
                Some(newest) => (newest.found(boot), newest.written),
                None => (Found::Unreadable, 0),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Found::Nothing, 0),
            Err(error) => return Err(error),
        };
        let mut open = OpenOptions::new();
        open.write(true).create(true).truncate(false).mode(0o600);
        let mut mark = Self {
            file: open.open(&path)?,
            written,
            boot,
        };
        if found == Found::Nothing {
            mark.write(Acknowledged::default())?;
            mark.write(Acknowledged::default())?;
            mark.file.sync_all()?;
            File::open(directory)?.sync_all()?;
        }
        Ok((mark, found))
    }

    /// Leaves it to the system when this gets to the disk.
    pub(super) fn write(&mut self, says: Acknowledged) -> io::Result<()> {
        self.written += 1;
        let written = Written {
            written: self.written,
            acknowledged: says,
            boot: self.boot,
        };
        self.file.write_all_at(&written.encode(), self.place())
    }

    /// Where it was written last.
    fn place(&self) -> u64 {
        match self.written.is_multiple_of(2) {
            true => PLACES[0],
            false => PLACES[1],
        }
    }

    /// Waits until what was written is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// 0 where the system has none.
fn boot() -> u64 {
    let id = std::fs::read(BOOT).unwrap_or_default();
    let id: String = id
        .iter()
        .filter(|c| c.is_ascii_hexdigit())
        .map(|c| char::from(*c))
        .collect();
    id.get(..16)
        .and_then(|half| u64::from_str_radix(half, 16).ok())
        .unwrap_or(0)
}

/// What was written last.
fn read(file: &File) -> Option<Written> {
    let mut newest: Option<Written> = None;
    for place in PLACES {
        let mut bytes = [0; LEN];
        if file.read_exact_at(&mut bytes, place).is_ok()
            && let Some(written) = Written::decode(&bytes)
            && newest.is_none_or(|newest| newest.written < written.written)
        {
            newest = Some(written);
        }
    }
    newest
}

impl Written {
    fn found(self, boot: u64) -> Found {
        Found::Says {
            acknowledged: self.acknowledged,
            is_exact: self.boot == boot && boot != 0,
        }
    }

    fn encode(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.written.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.acknowledged.number.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.boot.to_be_bytes());
        bytes[32] = u8::from(self.acknowledged.is_lossy);
        let sum = crc32c::crc32c(&bytes[..LEN - 4]);
        bytes[LEN - 4..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; LEN]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk()?;
        let (magic, rest) = body.split_first_chunk::<8>()?;
        let (written, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (boot, rest) = rest.split_first_chunk()?;
        let is_whole = *magic == MAGIC && crc32c::crc32c(body) == u32::from_le_bytes(*sum);
        is_whole.then(|| Self {
            written: u64::from_be_bytes(*written),
            acknowledged: Acknowledged {
                number: u64::from_be_bytes(*number),
                is_lossy: rest != [0],
            },
            boot: u64::from_be_bytes(*boot),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(number: u64, is_lossy: bool) -> Acknowledged {
        Acknowledged { number, is_lossy }
    }

    fn said(number: u64, is_lossy: bool) -> Found {
        Found::Says {
            acknowledged: says(number, is_lossy),
            is_exact: boot() != 0,
        }
    }

    fn found(directory: &Path) -> Found {
        Mark::open(directory).unwrap().1
    }

    #[test]
    fn is_exact_until_the_machine_ends() {
        let directory = tempfile::tempdir().unwrap();
        let (mut mark, _) = Mark::open(directory.path()).unwrap();
        mark.write(says(1, false)).unwrap();
        let file = File::open(directory.path().join(FILE)).unwrap();
        for (boot, expected) in [(mark.boot, mark.boot != 0), (mark.boot ^ 1, false)] {
            let Found::Says { is_exact, .. } = read(&file).unwrap().found(boot) else {
                panic!("unreadable");
            };
            assert_eq!(is_exact, expected);
        }
    }

    #[test]
    fn says_what_was_written_last() {
        let directory = tempfile::tempdir().unwrap();
        let (mut mark, nothing) = Mark::open(directory.path()).unwrap();
        assert_eq!(nothing, Found::Nothing);
        assert_eq!(found(directory.path()), said(0, false));
        for number in 1..5 {
            for is_lossy in [false, true, false] {
                mark.write(says(number, is_lossy)).unwrap();
                let expected = said(number, is_lossy);
                assert_eq!(found(directory.path()), expected);
            }
        }
        mark.sync().unwrap();
    }

    #[test]
    fn a_torn_write_leaves_what_was_said_before() {
        let directory = tempfile::tempdir().unwrap();
        let (mut mark, _) = Mark::open(directory.path()).unwrap();
        mark.write(says(6, false)).unwrap();
        mark.write(says(7, false)).unwrap();
        let (last, other) = match mark.place() {
            place if place == PLACES[0] => (PLACES[0], PLACES[1]),
            _ => (PLACES[1], PLACES[0]),
        };
        mark.file.write_all_at(b"torn", last + 10).unwrap();
        assert_eq!(found(directory.path()), said(6, false));
        mark.file.write_all_at(b"torn", other).unwrap();
        assert_eq!(found(directory.path()), Found::Unreadable);
    }

    #[test]
    fn a_number_is_known_by_its_key() {
        let numbered = Numbered {
            number: 77,
            previous: 5,
        };
        let value = numbered.encode();
        assert_eq!(Numbered::decode(KEY, &value), Some(numbered));
        assert_eq!(Numbered::decode(b"other", &value), None);
        assert_eq!(Numbered::decode(KEY, &value[1..]), None);
    }
}
