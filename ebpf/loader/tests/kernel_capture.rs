//! The programs, loaded into this kernel and exercised for real between a "pod" and a "host", each a
//! network namespace made for the test. Needs root; elsewhere it says so, and in CI that is a failure.
#![expect(clippy::print_stderr, reason = "a test says why it is skipped")]
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

#[path = "kernel_capture/lab.rs"]
mod lab;

#[path = "kernel_capture/outbound.rs"]
mod outbound;

#[path = "kernel_capture/inbound.rs"]
mod inbound;

#[path = "kernel_capture/dns.rs"]
mod dns;

#[path = "kernel_capture/lifecycle.rs"]
mod lifecycle;
