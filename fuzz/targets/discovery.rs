//! Workloads, services and policies as a control plane may send them.
#![no_main]

use ambit_model::Converter;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut converter = Converter::default();
    converter.decode_address(bytes).ok();
    converter.decode_policy("ns/name", bytes).ok();
});
