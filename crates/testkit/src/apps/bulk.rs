//! A byte stream whose every byte is known, so that loss, repetition and reordering all show.

/// Length of the pattern: a prime, so that whole buffers lost or repeated do not line up.
const PERIOD: usize = 65_521;

/// The endless stream: the same everywhere.
#[derive(Clone, Debug)]
pub struct Pattern {
    bytes: Vec<u8>,
}

impl Default for Pattern {
    fn default() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        // Twice, so that any stretch of up to a period is one slice.
        let once: Vec<u8> = (0..PERIOD).map(|_| next()).collect();
        Self {
            bytes: [once.clone(), once].concat(),
        }
    }
}

impl Pattern {
    /// The stream from `offset`, at most `length` bytes and never more than a period.
    #[must_use]
    pub fn at(&self, offset: u64, length: usize) -> &[u8] {
        let start = (offset % PERIOD as u64) as usize;
        &self.bytes[start..start + length.min(PERIOD)]
    }
}

/// Where `seen`, which starts at `offset`, first differs from the pattern.
#[must_use]
pub fn verify(pattern: &Pattern, mut offset: u64, mut seen: &[u8]) -> Option<u64> {
    while !seen.is_empty() {
        let want = pattern.at(offset, seen.len());
        let (now, rest) = seen.split_at(want.len());
        if now != want {
            let at = now.iter().zip(want).position(|(a, b)| a != b).unwrap_or(0);
            return Some(offset + at as u64);
        }
        offset += want.len() as u64;
        seen = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_or_missing_byte_is_found() {
        let pattern = Pattern::default();
        let mut seen: Vec<u8> = Vec::new();
        while seen.len() < 300_000 {
            let part = pattern.at(seen.len() as u64, 7919);
            seen.extend_from_slice(part);
        }
        assert_eq!(verify(&pattern, 0, &seen), None);
        let mut wrong = seen.clone();
        wrong[200_000] ^= 1;
        assert_eq!(verify(&pattern, 0, &wrong), Some(200_000));
        seen.drain(1000..1000 + 4096);
        assert!(verify(&pattern, 0, &seen).is_some_and(|at| (1000..1016).contains(&at)));
    }
}
