//! Header blocks: several through one decoder, whose table they share, as on one tunnel.
#![no_main]

use ambit_hbone::hpack::Decoder;
use libfuzzer_sys::fuzz_target;

/// A small list limit, so that the limit is reached.
const MAX_LIST: usize = 4096;

fuzz_target!(|bytes: &[u8]| {
    let mut decoder = Decoder::new(MAX_LIST);
    for block in bytes.split(|b| *b == 0xff) {
        // A connection ends at its first error.
        if decoder.decode(block).is_err() {
            return;
        }
    }
});
