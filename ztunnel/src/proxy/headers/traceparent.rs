//! The `traceparent` header: a random number per connection, by which the logs of the two agents
//! are brought together. Not sampled; no spans hang off it.

use http::HeaderValue;
use rand::RngExt;

/// Bytes of `00-<16 bytes>-<8 bytes>-00`.
const LENGTH: usize = 55;

/// A new one.
#[must_use]
pub fn random() -> Option<HeaderValue> {
    let mut rng = rand::rng();
    let (trace, span): (u128, u64) = (rng.random(), rng.random());
    // All zeroes are not a valid id.
    let text = format!("00-{:032x}-{:016x}-00", trace.max(1), span.max(1));
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()
}

/// Whether a value has the form of version 00; only such a one is repeated in logs.
#[must_use]
pub fn is_valid(value: &str) -> bool {
    value.len() == LENGTH
        && value.bytes().enumerate().all(|(at, byte)| match at {
            2 | 35 | 52 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_valid_and_different() {
        let (one, two) = (random().unwrap(), random().unwrap());
        assert!(is_valid(one.to_str().unwrap()), "{one:?}");
        assert_ne!(one, two);
    }

    #[test]
    fn other_forms_are_not() {
        for value in ["", "00", &"0".repeat(55), &"A".repeat(55)] {
            assert!(!is_valid(value), "{value}");
        }
    }
}
