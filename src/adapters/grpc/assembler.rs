//! Puts the fragments of one long message together again.
//!
//! The fragments of one message follow each other, so there is never more than one incomplete message.

use bytes::{Bytes, BytesMut};

use crate::proto::v1::Fragment;

/// The other end does not keep to the protocol; the stream can't go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum BadFragment {
    /// Fragments of two messages are mixed.
    #[error("a fragment of another message before the last of this one")]
    Mixed,
    /// More bytes than one message may have.
    #[error("a message of more than {0} bytes")]
    TooLong(usize),
}

/// The message that is coming in.
pub(super) struct Assembler {
    bytes_max: usize,
    partial: Option<(u64, BytesMut)>,
}

impl Assembler {
    /// For messages of at most `bytes_max`.
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            partial: None,
        }
    }

    /// Takes the next fragment; returns the message's id and bytes when it was the last.
    pub(super) fn add(&mut self, fragment: &Fragment) -> Result<Option<(u64, Bytes)>, BadFragment> {
        let (id, mut bytes) = self
            .partial
            .take()
            .unwrap_or_else(|| (fragment.id, BytesMut::new()));
        if id != fragment.id {
            return Err(BadFragment::Mixed);
        }
        if bytes.len() + fragment.data.len() > self.bytes_max {
            return Err(BadFragment::TooLong(self.bytes_max));
        }
        bytes.extend_from_slice(&fragment.data);
        if fragment.last {
            return Ok(Some((id, bytes.freeze())));
        }
        self.partial = Some((id, bytes));
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(id: u64, data: &'static str, last: bool) -> Fragment {
        Fragment {
            id,
            data: data.into(),
            last,
        }
    }

    #[test]
    fn the_parts_make_the_whole() {
        let mut assembler = Assembler::new(100);
        for id in [7, 8] {
            assert_eq!(assembler.add(&fragment(id, "ab", false)), Ok(None));
            assert_eq!(assembler.add(&fragment(id, "", false)), Ok(None));
            assert_eq!(
                assembler.add(&fragment(id, "c", true)),
                Ok(Some((id, Bytes::from("abc"))))
            );
        }
        assert_eq!(
            assembler.add(&fragment(9, "", true)),
            Ok(Some((9, Bytes::new())))
        );
    }

    #[test]
    fn mixed_parts_are_an_error() {
        let mut assembler = Assembler::new(100);
        assert_eq!(assembler.add(&fragment(1, "a", false)), Ok(None));
        assert_eq!(
            assembler.add(&fragment(2, "b", true)),
            Err(BadFragment::Mixed)
        );
    }

    #[test]
    fn it_does_not_grow_without_bound() {
        let mut assembler = Assembler::new(3);
        assert_eq!(assembler.add(&fragment(1, "ab", false)), Ok(None));
        assert_eq!(
            assembler.add(&fragment(1, "cd", false)),
            Err(BadFragment::TooLong(3))
        );
        assert_eq!(
            assembler.add(&fragment(1, "abcd", true)),
            Err(BadFragment::TooLong(3))
        );
    }
}
