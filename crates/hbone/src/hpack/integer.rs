//! Prefixed integers (RFC 7541 §5.1).

use super::DecodeError;

/// Longest continuation taken: enough for 28 bits on top of the prefix, far above any length or
/// index that could be valid here, and small enough that nothing overflows.
const MAX_CONTINUATION: usize = 4;

/// Takes an integer with a prefix of `bits` off the front of `input`. `first` has been taken
/// already.
pub(super) fn take(first: u8, bits: u32, input: &mut &[u8]) -> Result<usize, DecodeError> {
    let mask = (1u8 << (bits % 8)).wrapping_sub(1);
    let prefix = first & mask;
    let mut value = usize::from(prefix);
    if prefix < mask {
        return Ok(value);
    }
    for turn in 0..MAX_CONTINUATION {
        let (&byte, rest) = input.split_first().ok_or(DecodeError::Truncated)?;
        *input = rest;
        value += usize::from(byte & 0x7f) << (7 * turn);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(DecodeError::Integer)
}

/// Appends `value` with a prefix of `bits`; `pattern` holds the bits before the prefix.
pub(super) fn put(out: &mut Vec<u8>, pattern: u8, bits: u32, value: usize) {
    let mask = (1usize << bits) - 1;
    if value < mask {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
