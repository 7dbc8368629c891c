//! What the engine's journal holds, looked at before the engine opens it.
//!
//! The engine ends its reading of a journal at the first thing that it can't make out, and cuts off what comes after,
//! in silence: it takes it for an entry that was being written when the process died. It does not look whether anything
//! follows. Here that is looked at: what was acknowledged after a place that can't be read is lost, and somebody must
//! know.
//!
//! ```text
//! entry  = 01, number of items u32, sequence number u64 · items · 03, xxh3 of the items u64, "FJL" 03
//! item   = 02, kind u8, compression u8, keyspace u64, lengths of key u16, value u32, value as stored u32 · key · value
//! clear  = 04, keyspace u64
//! ```
//!
//! Integers are little endian. Journals are `N.jnl`; those before the last one are complete. A journal is made longer
//! than it is filled, so zeros follow. Every entry of ours has a number and names the one before it (see
//! [`commits`](super::commits)).
//!
//! | what is found | what it is |
//! |---|---|
//! | the last journal ends in what is no entry, and no entry follows | what was being written; cut off, nothing was acknowledged of it |
//! | an entry follows what is no entry, or entries are missing | damage: that, and all after it, was acknowledged and is lost |
//! | a journal before the last one ends in what is no entry | damage |
//!
//! What this is not: a reader of the tables that the engine makes of the journal. Those have checksums of their own.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::commits::Numbered;
use super::private;
use crate::adapters::directories;

const EXTENSION: &str = "jnl";
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const MAGIC: &[u8] = b"FJL\x03";
/// Sequence numbers grow by one or a few from one entry to the next.
const SEQUENCE_STEP_MAX: u64 = 1 << 32;
/// How much is read at most in search of an entry after a place that can't be read.
const SEARCH_BYTES_MAX: usize = 1 << 30;

/// A place that can't be read, with something acknowledged after it.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Damage {
    /// The journal that has it.
    pub(super) journal: PathBuf,
    /// Where in it.
    pub(super) at: u64,
    why: &'static str,
    /// The journals after it.
    later: Vec<PathBuf>,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            journal, at, why, ..
        } = self;
        write!(
            f,
            "the journal {} is damaged at byte {at}: {why}",
            journal.display()
        )
    }
}

/// An entry that can be read.
struct Entry {
    end: usize,
    sequence: u64,
    /// Its commit's number, if it has one.
    numbered: Option<Numbered>,
}

/// The last entry before a place.
#[derive(Clone, Copy, Default)]
struct Last {
    sequence: Option<u64>,
    number: Option<u64>,
}

/// What the journals hold.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Checked {
    /// The number of the last entry, before the damage if there is any.
    pub(super) number: Option<u64>,
    /// The first damage.
    pub(super) damage: Option<Damage>,
}

/// Reads all journals in `engine` and cuts off what was being written last.
pub(super) fn check(engine: &Path) -> io::Result<Checked> {
    let journals = list(engine)?;
    let mut last = Last::default();
    for (index, journal) in journals.iter().enumerate() {
        let later = &journals[index + 1..];
        let bytes = fs::read(journal)?;
        let Break {
            end,
            why,
            is_readable,
        } = read(&bytes, &mut last);
        let rest = without_zeros(&bytes[end..]);
        if rest.is_empty() {
            continue;
        }
        if later.is_empty() && !is_readable && !has_entry(rest, last) {
            tracing::info!(journal = %journal.display(), at = end, why, "the journal's last entry was not written to its end");
            cut(journal, end as u64)?;
            continue;
        }
        let damage = Damage {
            journal: journal.clone(),
            at: end as u64,
            why,
            later: later.to_vec(),
        };
        return Ok(last.with(Some(damage)));
    }
    Ok(last.with(None))
}

/// Takes the journals back to what comes before `damage`. The whole files are kept in `aside`, in the place of what was
/// put there before under the same names.
pub(super) fn take_back(damage: &Damage, aside: &Path) -> io::Result<()> {
    private::make(aside)?;
    let keep = |journal: &Path| -> io::Result<PathBuf> {
        let name = journal.file_name().unwrap_or_default();
        let kept = aside.join(name);
        match fs::remove_file(&kept) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(kept),
        }
    };
    for journal in damage.later.iter().rev() {
        fs::rename(journal, keep(journal)?)?;
    }
    fs::hard_link(&damage.journal, keep(&damage.journal)?)?;
    rewrite(&damage.journal, damage.at)?;
    directories::sync(aside)
}

/// Writes the last journal anew, so that what is read of it is what is on the disk: after a failed sync the system may
/// show what never got there.
pub(super) fn rewrite_last(engine: &Path) -> io::Result<()> {
    match list(engine)?.last() {
        Some(journal) => rewrite(journal, u64::MAX),
        None => Ok(()),
    }
}

/// Puts a file with the journal's first `len` bytes in its place.
fn rewrite(journal: &Path, len: u64) -> io::Result<()> {
    let new = journal.with_extension("new");
    let mut bytes = fs::read(journal)?;
    bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
    let mut open = OpenOptions::new();
    open.write(true).create(true).truncate(true).mode(0o600);
    let mut file = open.open(&new)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&new, journal)?;
    directories::sync(journal.parent().unwrap_or(Path::new(".")))
}

/// Without those at the end. There can be many, so they are looked at many at a time.
fn without_zeros(mut bytes: &[u8]) -> &[u8] {
    const ZEROS: &[u8] = &[0; 4096];
    while let Some(rest) = bytes.strip_suffix(ZEROS) {
        bytes = rest;
    }
    let len = bytes.iter().rposition(|byte| *byte != 0);
    &bytes[..len.map_or(0, |last| last + 1)]
}

fn cut(journal: &Path, len: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(journal)?;
    file.set_len(len)?;
    file.sync_all()
}

/// The journals, oldest first.
fn list(engine: &Path) -> io::Result<Vec<PathBuf>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(engine)? {
        let path = entry?.path();
        let is_journal = path.extension().is_some_and(|e| e == EXTENSION);
        let number = path.file_stem().and_then(|stem| stem.to_str());
        if let (true, Some(number)) = (is_journal, number.and_then(|n| n.parse::<u64>().ok())) {
            journals.push((number, path));
        }
    }
    journals.sort_unstable();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

/// Where reading ends, and why.
struct Break {
    end: usize,
    why: &'static str,
    /// There is an entry, but not the one that should follow.
    is_readable: bool,
}

/// Goes through entries until there is none.
fn read(bytes: &[u8], last: &mut Last) -> Break {
    let mut end = 0;
    loop {
        let ends = |why, is_readable| Break {
            end,
            why,
            is_readable,
        };
        let entry = match Reader::new(&bytes[end..]).entry() {
            Ok(entry) => entry,
            Err(why) => return ends(why, false),
        };
        if let Err(why) = last.is_followed_by(&entry) {
            return ends(why, true);
        }
        end += entry.end;
        last.sequence = Some(entry.sequence);
        last.number = entry.numbered.map(|one| one.number).or(last.number);
    }
}

impl Last {
    fn with(self, damage: Option<Damage>) -> Checked {
        let number = self.number;
        Checked { number, damage }
    }

    fn is_followed_by(self, entry: &Entry) -> Result<(), &'static str> {
        if let Some(before) = self.sequence
            && !(1..=SEQUENCE_STEP_MAX).contains(&entry.sequence.wrapping_sub(before))
        {
            return Err("an entry does not follow the one before it");
        }
        if let Some(before) = self.number
            && entry.numbered.is_none_or(|one| one.previous != before)
        {
            return Err("entries are missing");
        }
        Ok(())
    }
}

/// Whether there is an entry anywhere that was written after `last`.
fn has_entry(bytes: &[u8], last: Last) -> bool {
    let mut left = SEARCH_BYTES_MAX;
    for at in 1..bytes.len() {
        if bytes[at] != START {
            continue;
        }
        let mut reader = Reader::new(&bytes[at..]);
        let found = reader.entry();
        left = left.saturating_sub(reader.at);
        let is_later = |entry: Entry| {
            let is_later =
                |before| (1..=SEQUENCE_STEP_MAX).contains(&entry.sequence.wrapping_sub(before));
            last.sequence.is_none_or(is_later)
        };
        if found.is_ok_and(is_later) {
            return true;
        }
        if left == 0 {
            return false;
        }
    }
    false
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn entry(&mut self) -> Result<Entry, &'static str> {
        let [START] = self.array()? else {
            return Err("there is no entry where one should begin");
        };
        let items = u32::from_le_bytes(self.array()?);
        let sequence = u64::from_le_bytes(self.array()?);
        let mut sum = Xxh3::new();
        let mut numbered = None;
        for _ in 0..items {
            let begin = self.at;
            let found = self.item()?;
            numbered = found.or(numbered);
            sum.update(&self.bytes[begin..self.at]);
        }
        let [END] = self.array()? else {
            return Err("an entry does not end where it should");
        };
        let expected = u64::from_le_bytes(self.array()?);
        if self.take(MAGIC.len())? != MAGIC {
            return Err("an entry does not end as it should");
        }
        match items > 0 && sum.digest() == expected {
            true => Ok(Entry {
                end: self.at,
                sequence,
                numbered,
            }),
            false => Err("an entry's checksum is wrong"),
        }
    }

    /// Returns the commit's number, if this is where it is.
    fn item(&mut self) -> Result<Option<Numbered>, &'static str> {
        match self.array()? {
            [ITEM] => {}
            [CLEAR] => return self.take(8).map(|_| None),
            _ => return Err("an item does not begin where it should"),
        }
        self.take(1 + 1 + 8)?; // kind, compression, keyspace
        let key_len = u16::from_le_bytes(self.array()?);
        self.take(4)?; // the value's length before it was compressed
        let value_len = u32::from_le_bytes(self.array()?);
        let key = self.take(usize::from(key_len))?;
        let value = self.take(value_len as usize)?;
        Ok(Numbered::decode(key, value))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], &'static str> {
        let end = self
            .at
            .checked_add(len)
            .filter(|end| *end <= self.bytes.len());
        let end = end.ok_or("the journal ends in the middle of an entry")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| "the journal ends too early")
    }
}

#[cfg(test)]
#[path = "journal_test.rs"]
mod tests;
