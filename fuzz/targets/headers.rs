//! What a tunnel's peer says in a CONNECT: authority, baggage, forwarded.
#![no_main]

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use ztunnel::proxy::headers::{authority, baggage, forwarded};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        authority::parse(text).ok();
    }
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let mut headers = HeaderMap::new();
    for name in ["baggage", "forwarded"] {
        headers.insert(name, value.clone());
    }
    baggage::parse(&headers);
    forwarded::parse_host(&headers);
});
