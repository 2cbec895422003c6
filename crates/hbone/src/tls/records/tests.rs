//! Records between two of our own ends.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, duplex};

use super::*;
use crate::tls::{accept, connect};

#[path = "../../../tests/tunnel/support/pki.rs"]
mod pki;

/// Both ends of a fresh session.
fn session() -> (Records, Records) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (near, far) = duplex(64 * 1024);
        let timeout = Duration::from_secs(10);
        let (client, server) = tokio::join!(
            connect(near, Arc::clone(&pki::pki().client), pki::name(), timeout),
            accept(far, Arc::clone(&pki::pki().server), timeout)
        );
        let (mut client, server) = (client.unwrap(), server.unwrap());
        assert!(client.early.is_empty() && server.early.is_empty());
        // Session tickets wait here to be passed over.
        let mut records = client.records;
        let mut tickets = client.incoming;
        tickets.reserve(4096);
        client.io.read_buf(&mut tickets).await.unwrap();
        let used = records.open(&mut tickets, &mut Vec::new()).unwrap();
        assert_eq!(used, tickets.len());
        (records, server.records)
    })
}

fn seal(records: &mut Records, plaintext: &[u8]) -> Vec<u8> {
    let mut out = vec![0; room_for(plaintext.len())];
    let length = records.seal(plaintext, &mut out).unwrap();
    out.truncate(length);
    out
}

/// What `records` makes of `block`, and how much of it was used.
fn open(records: &mut Records, block: &mut [u8]) -> (Vec<u8>, usize) {
    let mut ranges = Vec::new();
    let used = records.open(block, &mut ranges).unwrap();
    (
        ranges
            .into_iter()
            .flat_map(|range| block[range].to_vec())
            .collect(),
        used,
    )
}

#[test]
fn records_arrive_in_whatever_portions() {
    let (mut client, mut server) = session();
    let texts = [vec![1; 10], vec![2; MAX_PLAINTEXT], vec![3; 1]];
    let mut stream: Vec<u8> = texts
        .iter()
        .flat_map(|text| seal(&mut client, text))
        .collect();
    let total = stream.len();
    // All but the last byte: two records, and a rest that waits for it.
    let (plain, used) = open(&mut server, &mut stream[..total - 1]);
    assert_eq!(plain, [&texts[0][..], &texts[1]].concat());
    let (plain, last) = open(&mut server, &mut stream[used..]);
    assert_eq!((plain, used + last), (texts[2].clone(), total));
}

/// The keys are replaced in time, and the peer follows; also when it asks itself.
#[test]
fn keys_are_replaced_before_their_limit() {
    let (mut client, mut server) = session();
    client.tx.sequence = MAX_RECORDS_PER_KEY - 1;
    server.rx.sequence = MAX_RECORDS_PER_KEY - 1;
    for turn in 0..3 {
        let mut block = seal(&mut client, &[turn; 100]);
        assert_eq!(open(&mut server, &mut block).0, [turn; 100]);
    }
    assert_eq!(client.tx.sequence, 2);
    assert_eq!(server.key_updates, 1);
    client.update_due = true;
    let mut block = seal(&mut client, b"after another update");
    assert_eq!(open(&mut server, &mut block).0, b"after another update");
    assert_eq!(server.key_updates, 2);
}

#[test]
fn an_update_request_is_answered_with_one() {
    let (mut client, mut server) = session();
    let mut block = vec![0; 100];
    let length = client
        .seal_record(HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 1], &mut block)
        .unwrap();
    let secrets = client.kernel.next_tx().unwrap();
    client.tx = Cipher::new(0, &secrets).unwrap();
    assert_eq!(
        open(&mut server, &mut block[..length]),
        (Vec::new(), length)
    );
    let mut answer = seal(&mut server, b"answer");
    assert_eq!(open(&mut client, &mut answer).0, b"answer");
    assert_eq!((client.key_updates, server.tx.sequence), (1, 1));
}

#[test]
fn what_is_no_record_is_refused() {
    let (mut client, _) = session();
    let mut sealed = |kind, content: &[u8]| {
        let mut out = vec![0; room_for(content.len())];
        let length = client.seal_record(kind, content, &mut out).unwrap();
        out.truncate(length);
        out
    };
    let mut flipped = sealed(APPLICATION_DATA, b"text");
    flipped[9] ^= 1;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("plaintext alert", vec![21, 3, 3, 0, 2, 1, 0]),
        ("short", vec![23, 3, 3, 0, 16]),
        ("long", vec![23, 3, 3, 0xff, 0xff]),
        ("flipped", flipped),
    ];
    for (what, mut block) in cases {
        let (_, mut server) = session();
        assert!(server.open(&mut block, &mut Vec::new()).is_err(), "{what}");
    }
    let contents: [(&str, u8, &[u8]); 8] = [
        ("no content type", 0, &[0; 20]),
        ("change cipher spec", 20, &[1]),
        ("fatal alert", ALERT, &[2, 40]),
        ("long alert", ALERT, &[1, 0, 0]),
        ("finished", HANDSHAKE, &[20, 0, 0, 1, 0]),
        ("key update of 2", HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 2]),
        (
            "key update and more",
            HANDSHAKE,
            &[KEY_UPDATE, 0, 0, 1, 0, 4, 0, 0, 0],
        ),
        ("cut handshake head", HANDSHAKE, &[4, 0]),
    ];
    for (what, kind, content) in contents {
        let (mut client, mut server) = session();
        let mut out = vec![0; room_for(content.len())];
        let length = client.seal_record(kind, content, &mut out).unwrap();
        assert!(
            server.open(&mut out[..length], &mut Vec::new()).is_err(),
            "{what}"
        );
    }
}

/// Tickets are passed over, also when they span records.
#[test]
fn tickets_are_passed_over() {
    let (mut client, mut server) = session();
    let mut out = vec![0; 1000];
    let mut length = server
        .seal_record(HANDSHAKE, &[4, 0, 0, 30, 1, 1, 1], &mut out)
        .unwrap();
    let rest = [&[1; 27][..], &[4, 0, 0, 2, 9, 9]].concat();
    length += server
        .seal_record(HANDSHAKE, &rest, &mut out[length..])
        .unwrap();
    assert_eq!(open(&mut client, &mut out[..length]), (Vec::new(), length));
    let mut block = seal(&mut server, b"text");
    assert_eq!(open(&mut client, &mut block).0, b"text");
}

#[test]
fn nothing_is_read_after_the_closing_alert() {
    let (mut client, mut server) = session();
    let mut out = vec![0; 200];
    let mut length = client.seal_close(&mut out).unwrap();
    length += client.seal(b"too late", &mut out[length..]).unwrap();
    assert_eq!(open(&mut server, &mut out[..length]).0, b"");
    assert!(server.is_closed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn garbage_is_refused_or_waited_for(input in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (_, mut server) = session();
        let mut plain = Vec::new();
        drop(server.open(&mut input.clone(), &mut plain));
        prop_assert!(plain.is_empty());
    }
}
