//! The Huffman code of RFC 7541 Appendix B. The code is canonical: ordered by length and then by
//! symbol, so the lengths are all there is to know; everything else is derived from them when
//! compiling.

use super::DecodeError;

/// Code lengths of the 256 byte values. The 257th symbol, EOS, is thirty ones and never valid.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

const MAX_LENGTH: usize = 30;
const EOS: u32 = (1 << MAX_LENGTH) - 1;

/// The canonical code: for each length, its first code and where its symbols start in `symbols`.
struct Code {
    first: [u32; MAX_LENGTH + 2],
    start: [u16; MAX_LENGTH + 2],
    symbols: [u8; 256],
}

const CODE: Code = derive();

const fn derive() -> Code {
    let mut code = Code {
        first: [0; MAX_LENGTH + 2],
        start: [0; MAX_LENGTH + 2],
        symbols: [0; 256],
    };
    let (mut length, mut next, mut placed) = (1, 0u32, 0);
    while length <= MAX_LENGTH {
        code.first[length] = next;
        code.start[length] = placed;
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                code.symbols[placed as usize] = symbol as u8;
                placed += 1;
                next += 1;
            }
            symbol += 1;
        }
        next <<= 1;
        length += 1;
    }
    code.start[MAX_LENGTH + 1] = placed;
    code
}

/// Symbols whose code has at most eight bits, by the next eight bits of input: nearly all of what
/// header values consist of. The length is 0 where the code is longer.
const SHORT: [(u8, u8); 256] = {
    let mut short = [(0, 0); 256];
    let mut length = 5;
    while length <= 8 {
        let mut index = CODE.start[length];
        while index < CODE.start[length + 1] {
            let code = CODE.first[length] + (index - CODE.start[length]) as u32;
            let mut filler = 0;
            while filler < 1 << (8 - length) {
                let slot = (code << (8 - length)) + filler;
                short[slot as usize] = (CODE.symbols[index as usize], length as u8);
                filler += 1;
            }
            index += 1;
        }
        length += 1;
    }
    short
};

/// Appends the decoded `input` to `out`.
///
/// # Errors
/// The EOS symbol, padding of eight bits or more, or padding that is not all ones.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let (mut bits, mut count) = (0u64, 0usize);
    let mut rest = input.iter();
    loop {
        while count <= 56 - 8
            && let Some(&byte) = rest.next()
        {
            bits = bits << 8 | u64::from(byte);
            count += 8;
        }
        if count == 0 {
            return Ok(());
        }
        // The next bits, left-aligned in 32 and filled up with ones, as the padding is.
        let window = if count >= 32 {
            (bits >> (count - 32)) as u32
        } else {
            (bits << (32 - count)) as u32 | (u32::MAX >> count)
        };
        let (symbol, length) = match SHORT[(window >> 24) as usize] {
            (_, 0) => match find_long(window) {
                Some(found) => found,
                None if count < 8 && window == u32::MAX => return Ok(()),
                None => return Err(DecodeError::Huffman),
            },
            found => (found.0, usize::from(found.1)),
        };
        if length > count {
            // Fewer bits than the code needs: valid only as padding.
            let padding = count < 8 && window == u32::MAX;
            return if padding {
                Ok(())
            } else {
                Err(DecodeError::Huffman)
            };
        }
        out.push(symbol);
        count -= length;
        bits &= (1u64 << count) - 1;
    }
}

fn find_long(window: u32) -> Option<(u8, usize)> {
    (9..=MAX_LENGTH).find_map(|length| {
        let code = window >> (32 - length);
        let offset = code.checked_sub(CODE.first[length])?;
        let index = u32::from(CODE.start[length]) + offset;
        let found = index < u32::from(CODE.start[length + 1]) && code != EOS;
        found.then(|| (CODE.symbols[index as usize], length))
    })
}

/// Appends the encoded `input` to `out`; for tests, which need a second opinion on the table.
#[cfg(test)]
pub(super) fn encode(input: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut count) = (0u64, 0);
    for &byte in input {
        let length = usize::from(LENGTHS[usize::from(byte)]);
        let range = usize::from(CODE.start[length])..usize::from(CODE.start[length + 1]);
        let offset = CODE.symbols[range]
            .iter()
            .position(|&symbol| symbol == byte)
            .unwrap();
        bits = bits << length | u64::from(CODE.first[length] + offset as u32);
        count += length;
        while count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        out.push((bits << (8 - count)) as u8 | (0xff >> count));
    }
}
