//! Delta debugging: the smallest list that still fails, found by taking parts away.
//!
//! Source: Zeller, Hildebrandt, *Simplifying and Isolating Failure-Inducing Input*, 2002. What is left is 1-minimal if
//! the test always told the truth: no single element can be taken away.

/// Takes away from `items` what is not needed for `fails` to hold. `fails` is never asked about all of them.
pub fn ddmin<T: Clone>(items: &[T], mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut items = items.to_vec();
    if items.is_empty() || fails(&[]) {
        return Vec::new();
    }
    let mut parts = 2;
    while items.len() > 1 {
        let size = items.len().div_ceil(parts);
        let without = |start: usize| -> Vec<T> {
            let end = (start + size).min(items.len());
            [&items[..start], &items[end..]].concat()
        };
        let smaller = (0..items.len())
            .step_by(size)
            .map(without)
            .find(|rest| !rest.is_empty() && fails(rest));
        match smaller {
            Some(rest) => {
                items = rest;
                parts = (parts - 1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(items.len()),
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_left() {
        let items: Vec<u32> = (0..100).collect();
        let mut asked = 0;
        let left = ddmin(&items, |rest| {
            asked += 1;
            [17, 18, 93].iter().all(|needed| rest.contains(needed))
        });
        assert_eq!(left, [17, 18, 93]);
        assert!(asked < 200, "asked {asked} times");
        assert_eq!(ddmin(&items, |_| true), [0; 0]);
        assert_eq!(ddmin(&items, |_| false), items);
        assert_eq!(ddmin(&[1], |rest| rest.contains(&1)), [1]);
        // Either of two will do, but not neither.
        let left = ddmin(&items, |rest| rest.contains(&3) || rest.contains(&70));
        assert_eq!(left.len(), 1);
    }
}
