//! Journals made by hand, whole and damaged. That the engine writes them so is tested on the engine.

use tempfile::TempDir;

use super::super::commits::KEY;
use super::*;

fn item(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![ITEM, 0, 0];
    bytes.extend(7_u64.to_le_bytes());
    bytes.extend((key.len() as u16).to_le_bytes());
    bytes.extend((value.len() as u32).to_le_bytes());
    bytes.extend((value.len() as u32).to_le_bytes());
    bytes.extend(key);
    bytes.extend(value);
    bytes
}

fn sealed(sequence: u64, items: &[Vec<u8>]) -> Vec<u8> {
    let body = items.concat();
    let mut bytes = vec![START];
    bytes.extend((items.len() as u32).to_le_bytes());
    bytes.extend(sequence.to_le_bytes());
    bytes.extend(&body);
    bytes.push(END);
    bytes.extend(xxhash_rust::xxh3::xxh3_64(&body).to_le_bytes());
    bytes.extend(MAGIC);
    bytes
}

/// The entry of commit `number`, which follows `previous`.
fn entry_after(number: u64, previous: u64) -> Vec<u8> {
    let numbered = Numbered { number, previous };
    let record = item(b"key", &[number as u8; 30]);
    sealed(100 + number, &[record, item(KEY, &numbered.encode())])
}

fn entries(numbers: std::ops::RangeInclusive<u64>) -> Vec<u8> {
    numbers.flat_map(|n| entry_after(n, n - 1)).collect()
}

fn with_zeros(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len() + 1000, 0);
    bytes
}

/// A directory with these journals, from `1.jnl` on.
fn journals(contents: &[Vec<u8>]) -> TempDir {
    let directory = TempDir::new().unwrap();
    for (index, bytes) in contents.iter().enumerate() {
        fs::write(path(&directory, index), bytes).unwrap();
    }
    directory
}

fn path(directory: &TempDir, index: usize) -> PathBuf {
    directory.path().join(format!("{}.jnl", index + 9)) // 9 comes before 10
}

fn check_all(contents: &[Vec<u8>]) -> (Checked, TempDir) {
    let directory = journals(contents);
    (check(directory.path()).unwrap(), directory)
}

fn is_whole(contents: &[Vec<u8>], number: u64) {
    let (checked, _directory) = check_all(contents);
    let number = (number > 0).then_some(number);
    let damage = None;
    assert_eq!(checked, Checked { number, damage });
}

fn damage(contents: &[Vec<u8>]) -> (Damage, Option<u64>, TempDir) {
    let (checked, directory) = check_all(contents);
    (checked.damage.unwrap(), checked.number, directory)
}

#[test]
fn what_is_whole_is_whole() {
    is_whole(&[], 0);
    is_whole(&[Vec::new()], 0);
    is_whole(&[vec![0; 500]], 0);
    is_whole(&[entries(1..=5)], 5);
    is_whole(&[with_zeros(entries(3..=5))], 5);
    is_whole(
        &[with_zeros(entries(1..=5)), entries(6..=9), vec![0; 10]],
        9,
    );
    // From before entries had numbers.
    let old = sealed(5, &[item(b"a", b"1")]);
    is_whole(&[[old, entries(1..=2)].concat()], 2);
    // Numbers skip what is known to be lost.
    is_whole(&[[entries(1..=3), entry_after(9, 3)].concat()], 9);
}

#[test]
fn what_was_being_written_is_cut_off() {
    let whole = entries(1..=4);
    let last = entry_after(5, 4);
    for len in 1..last.len() {
        let torn = [whole.clone(), last[..len].to_vec()].concat();
        for torn in [torn.clone(), with_zeros(torn)] {
            let (checked, directory) = check_all(&[torn]);
            let (number, damage) = (Some(4), None);
            assert_eq!(checked, Checked { number, damage }, "{len}");
            let left = fs::read(path(&directory, 0)).unwrap();
            assert!(
                left.iter().skip(whole.len()).all(|byte| *byte == 0),
                "{len}"
            );
        }
    }
    // Whatever part of it got to the disk.
    let mut holey = [whole.clone(), last].concat();
    holey[whole.len() + 20..whole.len() + 50].fill(0);
    is_whole(&[holey], 4);
}

#[test]
fn any_changed_bit_before_the_last_entry_is_damage() {
    const SEQUENCE: std::ops::Range<usize> = 5..13;
    let whole = entries(1..=6);
    let len = whole.len() / 6;
    for (at, bit) in (0..whole.len() - len).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut changed = whole.clone();
        changed[at] ^= 1 << bit;
        let (checked, _directory) = check_all(&[with_zeros(changed)]);
        let Some(found) = checked.damage else {
            assert!(SEQUENCE.contains(&at), "byte {at} bit {bit}");
            continue; // how the first one is numbered makes no difference, as long as the next one is above it
        };
        let number = checked.number;
        let entry = at / len;
        assert!(
            found.at <= ((entry + 1) * len) as u64,
            "byte {at} bit {bit}: {found}"
        );
        assert!(
            number.unwrap_or(0) <= entry as u64 + 1,
            "byte {at} bit {bit}: {found}"
        );
    }
}

#[test]
fn missing_entries_and_journals_are_damage() {
    let gap = [entries(1..=2), entries(4..=5)].concat();
    let (found, number, _directory) = damage(&[gap]);
    assert_eq!((found.at, number), (entries(1..=2).len() as u64, Some(2)));
    let (found, number, directory) = damage(&[entries(1..=2), entries(5..=6)]);
    assert_eq!(found.journal, path(&directory, 1));
    assert_eq!((found.at, number), (0, Some(2)));
    let unnumbered = [entries(1..=2), sealed(500, &[item(b"a", b"1")])].concat();
    assert_eq!(damage(&[unnumbered]).1, Some(2));
}

#[test]
fn a_journal_before_the_last_one_has_no_torn_end() {
    let torn = [entries(1..=2), vec![1, 2, 3]].concat();
    let (found, number, directory) = damage(&[torn, entries(3..=4)]);
    assert_eq!(found.journal, path(&directory, 0));
    assert_eq!(number, Some(2));
}

#[test]
fn what_is_damaged_is_set_aside_and_what_is_before_it_stays() {
    let torn = [entries(1..=2), vec![1, 2, 3]].concat();
    let contents = [torn, entries(3..=4), entries(5..=6)];
    let (found, _, directory) = damage(&contents);
    let aside = directory.path().join("aside");
    for _ in 0..2 {
        take_back(&found, &aside).unwrap();
        for (index, bytes) in contents.iter().enumerate() {
            let name = path(&directory, index);
            let kept = fs::read(aside.join(name.file_name().unwrap())).unwrap();
            assert!(kept == *bytes, "{index}");
            assert_eq!(name.exists(), index == 0);
        }
        let number = Some(2);
        let left = check(directory.path()).unwrap();
        assert_eq!(
            left,
            Checked {
                number,
                damage: None
            }
        );
        // As if the crash came before the directory was synced, and the same was found again.
        for (index, bytes) in contents.iter().enumerate() {
            fs::write(path(&directory, index), bytes).unwrap();
        }
    }
}

#[test]
fn the_last_journal_is_written_anew_as_it_is() {
    let directory = journals(&[entries(1..=2), entries(3..=4)]);
    let last = path(&directory, 1);
    let before = fs::read(&last).unwrap();
    rewrite_last(directory.path()).unwrap();
    assert!(fs::read(&last).unwrap() == before);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}
