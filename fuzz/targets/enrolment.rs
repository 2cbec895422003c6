//! What comes over the CNI agent's socket.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ztunnel::capture::zds::message;

fuzz_target!(|bytes: &[u8]| {
    for descriptors in 0..3 {
        message::decode(bytes, descriptors).ok();
    }
});
