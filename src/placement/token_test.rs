//! Tokens and partitions: fixed for ever, because stored data depends on them.

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;

/// If one of these changes, every key of every existing cluster changes its place. Don't accept; find out why.
#[test]
fn golden_tokens() {
    assert_snapshot!(Token::of_key("", ""), @"d1c5b497e10d67e4");
    assert_snapshot!(Token::of_key("default", "user:1"), @"791a0e6a097b6da5");
    assert_snapshot!(Token::of_key("default", "user:1").partition(DEFAULT_PARTITIONS), @"1937");
    assert_snapshot!(Token::of_key("Mandant-ß", "ключ"), @"ad7ecd7c63f0f760");
    assert_snapshot!(Token::of_virtual_node("node-1", 0), @"63588b471c8857d3");
    assert_snapshot!(Token::of_virtual_node("node-1", 149), @"51211357ac44f066");
}

#[test]
fn moving_the_border_between_tenant_and_key_changes_the_token() {
    assert_ne!(Token::of_key("a", "bc"), Token::of_key("ab", "c"));
    assert_ne!(Token::of_key("", "abc"), Token::of_key("abc", ""));
    assert_ne!(Token::of_key("a\0", "b"), Token::of_key("a", "\0b"));
}

#[test]
fn a_key_that_spells_a_virtual_node_does_not_get_its_token() {
    let node = Token::of_virtual_node("node-1", 0);
    assert_ne!(Token::of_key("", "node-1"), node);
    assert_ne!(Token::of_key("node-1", ""), node);
}

#[test]
fn partitions_tile_the_token_space() {
    for partitions in [1, 2, 3, 7, 1000, 4095, 4096, MAX_PARTITIONS] {
        assert_eq!(Token(0).partition(partitions), PartitionId(0));
        let last = PartitionId((partitions - 1) as u16);
        assert_eq!(Token(u64::MAX).partition(partitions), last);
        assert_eq!(PartitionId(0).start(partitions), Token(0));
        for number in 1..=(partitions - 1) as u16 {
            let start = PartitionId(number).start(partitions);
            assert_eq!(start.partition(partitions), PartitionId(number));
            let before = Token(start.0 - 1).partition(partitions);
            assert_eq!(before, PartitionId(number - 1));
        }
    }
}

#[test]
#[should_panic]
fn a_partition_that_is_none_has_no_start() {
    PartitionId(8).start(8);
}

proptest! {
    /// Cut one text in two at every pair of places: only equal cuts may agree.
    #[test]
    fn one_text_cut_differently_is_different_pairs(text in ".{0,12}") {
        let borders: Vec<usize> =
            (0..=text.len()).filter(|&at| text.is_char_boundary(at)).collect();
        let mut tokens: Vec<Token> = borders
            .iter()
            .map(|&at| text.split_at(at))
            .map(|(tenant, key)| Token::of_key(tenant, key))
            .collect();
        tokens.sort();
        tokens.dedup();
        prop_assert_eq!(tokens.len(), borders.len());
    }

    #[test]
    fn a_token_lies_in_its_partition(token: u64, partitions in 1..=MAX_PARTITIONS) {
        let token = Token(token);
        let partition = token.partition(partitions);
        prop_assert!(partition.start(partitions) <= token);
        if u32::from(partition.0) + 1 < partitions {
            prop_assert!(token < PartitionId(partition.0 + 1).start(partitions));
        }
    }
}
