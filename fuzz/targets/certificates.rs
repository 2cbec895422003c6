//! Certificates of peers and revocation lists.
#![no_main]

use ambit_identity::{RevocationLists, peer_identity, uri_names};
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::CertificateDer;

fuzz_target!(|bytes: &[u8]| {
    let certificate = CertificateDer::from(bytes.to_vec());
    uri_names(&certificate).ok();
    peer_identity(&[certificate]).ok();
    RevocationLists::from_pem(bytes).ok();
});
