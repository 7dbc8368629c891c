//! What a process writes: a file without a name, so that nobody has to read for the process to go on.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

/// Of longer ones the end is shown.
const SHOWN_BYTES: u64 = 64 * 1024;

/// One stream of one process.
#[derive(Debug)]
pub struct Log(File);

impl Log {
    pub fn new() -> Self {
        Self(tempfile::tempfile().expect("a temporary file"))
    }

    /// The end that the process has.
    pub fn stdio(&self) -> Stdio {
        self.0.try_clone().expect("a descriptor").into()
    }

    /// All of it.
    pub fn bytes(&self) -> Vec<u8> {
        self.from(0)
    }

    /// The end of it.
    pub fn end(&self) -> String {
        let bytes = self.from(self.len().saturating_sub(SHOWN_BYTES));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Once the process has ended a line.
    pub fn first_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.bytes()).into_owned();
        Some(text.split_once('\n')?.0.to_owned())
    }

    fn len(&self) -> u64 {
        self.0.metadata().expect("a file has a length").len()
    }

    /// Reads without moving the place where the process writes: its descriptor shares that with this one.
    fn from(&self, start: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.len() - start).expect("it fits")];
        self.0.read_exact_at(&mut bytes, start).expect("it is read");
        bytes
    }
}
