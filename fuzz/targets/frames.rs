//! HTTP/2 frames as a tunnel's peer may send them: heads, padding, settings, fixed payloads.
#![no_main]

use ambit_hbone::frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((head, payload)) = bytes.split_first_chunk() else { return };
    let head = frame::Head::parse(head);
    assert_eq!(frame::Head::parse(&head.bytes()), head, "a head reads as it was written");
    if let Ok(stripped) = frame::strip_padding(head, payload) {
        assert!(stripped.len() <= payload.len());
    }
    frame::strip_headers(head, payload).ok();
    frame::parse_u32(payload).ok();
    frame::parse_goaway(payload).ok();
    let mut settings = frame::PeerSettings::default();
    for from_server in [false, true] {
        frame::parse_settings(payload, from_server, &mut settings).ok();
    }
});
