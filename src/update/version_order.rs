//! The order of versions of networks: `0.10.0` comes after `0.9.2`.

use std::cmp::Ordering;

/// Compares two versions part by part: numbers by value, other parts by their text. A number comes after a text, so that a
/// release comes after its candidates (`1.0.rc1`, `1.0.0`), and a version with more parts after the shorter one.
pub(crate) fn compare(one: &str, other: &str) -> Ordering {
    let mut parts = [one, other].map(|version| version.split(['.', '-', '+', '_', ' ']));
    loop {
        let [one, other] = parts.each_mut().map(Iterator::next);
        let order = match (one, other) {
            (None, None) => return Ordering::Equal,
            (Some(_), None) => Ordering::Greater,
            (None, Some(_)) => Ordering::Less,
            (Some(one), Some(other)) => match (number(one), number(other)) {
                // Without leading zeros, the longer number is the larger one, however long.
                (Some(one), Some(other)) => one.len().cmp(&other.len()).then_with(|| one.cmp(other)),
                (Some(_), None) => Ordering::Greater,
                (None, Some(_)) => Ordering::Less,
                (None, None) => one.cmp(other),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Returns the digits of a number without leading zeros.
fn number(part: &str) -> Option<&str> {
    let part = part.strip_prefix('v').unwrap_or(part);
    let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| part.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_values() {
        let ordered = [
            "",
            "rc1",
            "0.6.0",
            "0.7",
            "0.7.0",
            "0.9.2",
            "0.10.0",
            "1.0.beta",
            "1.0.rc1",
            "1.0.0",
            "2026-11-30",
            "2026-12-01",
            "99999999999999999999999999999999",
        ];
        for (place, one) in ordered.iter().enumerate() {
            for (other_place, other) in ordered.iter().enumerate() {
                assert_eq!(compare(one, other), place.cmp(&other_place), "{one:?} {other:?}");
            }
        }
        assert_eq!(compare("v1.02", "1.2"), Ordering::Equal);
        assert_eq!(compare("1.0-rc1", "1.0_rc1"), Ordering::Equal);
    }
}
