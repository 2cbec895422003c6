//! RFC 7541's own examples, limits, and round trips.

use bytes::Bytes;
use proptest::prelude::*;

use super::{DecodeError, Decoded, Decoder, Encoder, huffman};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn fields(decoder: &mut Decoder, block: &[u8]) -> Vec<(String, String)> {
    let Decoded::Fields(fields) = decoder.decode(block).unwrap() else {
        panic!("too large")
    };
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    fields
        .into_iter()
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

fn check(decoder: &mut Decoder, block: &str, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    assert_eq!(fields(decoder, &hex(block)), expected);
}

/// Appendix C.3: requests without Huffman, the table carried over.
#[test]
fn requests_with_plain_literals() {
    let mut decoder = Decoder::new(4096);
    let base = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
    let authority = (":authority", "www.example.com");
    check(
        &mut decoder,
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        &[base[0], base[1], base[2], authority],
    );
    check(
        &mut decoder,
        "8286 84be 5808 6e6f 2d63 6163 6865",
        &[
            base[0],
            base[1],
            base[2],
            authority,
            ("cache-control", "no-cache"),
        ],
    );
    check(
        &mut decoder,
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        &[
            base[0],
            (":scheme", "https"),
            (":path", "/index.html"),
            authority,
            ("custom-key", "custom-value"),
        ],
    );
}

/// Appendix C.4: the same with Huffman.
#[test]
fn requests_with_huffman() {
    let mut decoder = Decoder::new(4096);
    let base = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
    let authority = (":authority", "www.example.com");
    check(
        &mut decoder,
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        &[base[0], base[1], base[2], authority],
    );
    check(
        &mut decoder,
        "8286 84be 5886 a8eb 1064 9cbf",
        &[
            base[0],
            base[1],
            base[2],
            authority,
            ("cache-control", "no-cache"),
        ],
    );
    check(
        &mut decoder,
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        &[
            base[0],
            (":scheme", "https"),
            (":path", "/index.html"),
            authority,
            ("custom-key", "custom-value"),
        ],
    );
}

/// Appendix C.6: responses with Huffman and eviction from a table of 256 bytes.
#[test]
fn responses_with_eviction() {
    let mut decoder = Decoder::new(4096);
    let date = "Mon, 21 Oct 2013 20:13:21 GMT";
    let location = ("location", "https://www.example.com");
    let private = ("cache-control", "private");
    check(
        &mut decoder,
        "3fe101 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 \
         2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        &[(":status", "302"), private, ("date", date), location],
    );
    check(
        &mut decoder,
        "4883 640e ffc1 c0bf",
        &[(":status", "307"), private, ("date", date), location],
    );
    check(
        &mut decoder,
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad \
         94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 \
         65c0 03ed 4ee5 b106 3d50 07",
        &[
            (":status", "200"),
            private,
            ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
            location,
            ("content-encoding", "gzip"),
            (
                "set-cookie",
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            ),
        ],
    );
}

#[test]
fn malformed_blocks_are_refused() {
    let cases: [(&str, DecodeError); 10] = [
        ("80", DecodeError::Index),
        ("be", DecodeError::Index),
        ("ffffffffff0f", DecodeError::Integer),
        ("ff", DecodeError::Truncated),
        ("41 05 6161", DecodeError::Truncated),
        ("00", DecodeError::Truncated),
        ("3fe21f", DecodeError::TableSize),
        ("82 20", DecodeError::TableSize),
        // EOS, and padding of a whole byte, and padding with a zero in it.
        ("41 84 ffffffff", DecodeError::Huffman),
        ("41 81 00", DecodeError::Huffman),
    ];
    for (block, expected) in cases {
        let outcome = Decoder::new(4096).decode(&hex(block));
        assert_eq!(outcome, Err(expected), "{block}");
    }
    let whole_byte_of_padding = "41 83 f1e3ff".to_owned() + "ff";
    assert!(
        Decoder::new(4096)
            .decode(&hex(&whole_byte_of_padding))
            .is_err()
    );
}

/// A list over the limit is reported, and the table still holds what the block put there.
#[test]
fn oversized_lists_keep_the_compression_state() {
    let mut decoder = Decoder::new(60);
    let mut block = hex("400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65");
    block.extend_from_slice(&[0xbe; 3]);
    assert_eq!(decoder.decode(&block), Ok(Decoded::TooLarge));
    check(&mut decoder, "be", &[("custom-key", "custom-value")]);
}

/// A table entry that is named over and over must not be copied into memory over and over.
#[test]
fn a_small_block_cannot_become_a_large_list() {
    let mut decoder = Decoder::new(16 * 1024);
    let mut block = vec![0x40, 1, b'a', 0x7f, 0x80 | 33, 30];
    block.resize(6 + 127 + 33 + 30 * 128, b'b');
    block.resize(block.len() + 10_000, 0xbe);
    assert_eq!(decoder.decode(&block), Ok(Decoded::TooLarge));
}

proptest! {
    #[test]
    fn huffman_round_trips(input in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (mut coded, mut decoded) = (Vec::new(), Vec::new());
        huffman::encode(&input, &mut coded);
        huffman::decode(&coded, &mut decoded).unwrap();
        prop_assert_eq!(decoded, input);
    }

    #[test]
    fn fields_round_trip(
        list in proptest::collection::vec(("[a-z-]{1,20}", "[ -~]{0,200}"), 0..20),
        changed: bool,
    ) {
        let mut block = Vec::new();
        let mut encoder = Encoder::new(&mut block, changed);
        for (name, value) in &list {
            encoder.field(name, value.as_bytes());
        }
        let decoded = fields(&mut Decoder::new(1 << 20), &block);
        prop_assert_eq!(decoded, list);
    }

    #[test]
    fn garbage_never_panics(input in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut decoder = Decoder::new(1024);
        drop(decoder.decode(&input));
        drop(decoder.decode(&input));
    }
}
