//! DNS queries of pods, and the resolver configuration they bring.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ztunnel::dns::{message, resolv_conf::ResolvConf};

fuzz_target!(|bytes: &[u8]| {
    message::decode(bytes).ok();
    if let Ok(text) = std::str::from_utf8(bytes) {
        ResolvConf::parse(text);
    }
});
