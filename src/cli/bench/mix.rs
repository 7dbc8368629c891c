//! Which operations, in which proportion.

use std::fmt;
use std::str::FromStr;

/// One operation of the load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// A put.
    Write,
    /// A get.
    Read,
}

/// Shares of writes and reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mix {
    writes: u32,
    reads: u32,
}

impl Mix {
    /// A random operation by the shares.
    pub fn pick(self) -> Operation {
        match rand::random_range(0..self.writes + self.reads) {
            number if number < self.writes => Operation::Write,
            _ => Operation::Read,
        }
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut mix = Self {
            writes: 0,
            reads: 0,
        };
        for part in text.split(',') {
            let share = |number: &str| match number.parse() {
                Ok(share @ 0..=1_000_000) => Ok(share),
                _ => Err(format!("'{number}' is not a share from 0 to 1000000")),
            };
            match part.split_once('=') {
                Some(("write", number)) => mix.writes = share(number)?,
                Some(("read", number)) => mix.reads = share(number)?,
                _ => return Err(format!("'{part}' is neither write=N nor read=N")),
            }
        }
        match mix.writes + mix.reads {
            0 => Err("nothing would be done".into()),
            _ => Ok(mix),
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write={},read={}", self.writes, self.reads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_parsed_and_the_rest_is_refused() {
        assert_eq!(
            "write=1,read=9".parse(),
            Ok(Mix {
                writes: 1,
                reads: 9
            })
        );
        assert_eq!("read=1".parse::<Mix>().unwrap().pick(), Operation::Read);
        for wrong in [
            "",
            "write",
            "write=x",
            "write=0",
            "scan=1",
            "write=1,read=-1",
            "write=9999999",
        ] {
            assert!(wrong.parse::<Mix>().is_err(), "{wrong}");
        }
    }
}
