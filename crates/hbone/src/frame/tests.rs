//! Frames: however the input is cut, the same items come out; garbage never panics.

use proptest::prelude::*;

use super::*;

/// Head, payload, and bytes of padding.
type Frame = (Head, Vec<u8>, u32);

/// What a deframer makes of `input` cut into `pieces`: DATA joined, everything else as it is.
fn deframe(input: &[u8], pieces: &[usize]) -> (Vec<Frame>, Option<Violation>) {
    let mut deframer = Deframer::new(MIN_MAX_FRAME);
    let mut frames: Vec<Frame> = Vec::new();
    let (mut rest, mut at) = (input, 0);
    while !rest.is_empty() {
        let take = pieces
            .get(at)
            .map_or(rest.len(), |piece| (piece + 1).min(rest.len()));
        let (mut piece, more) = rest.split_at(take);
        (rest, at) = (more, at + 1);
        loop {
            match deframer.next(&mut piece) {
                Ok(Some(Item::DataStart(head))) => frames.push((head, Vec::new(), 0)),
                Ok(Some(Item::Data(_, bytes))) => {
                    assert!(!bytes.is_empty());
                    frames.last_mut().unwrap().1.extend_from_slice(bytes);
                }
                Ok(Some(Item::Padding(_, count))) => frames.last_mut().unwrap().2 += count,
                Ok(Some(Item::DataEnd(head))) => {
                    let (start, data, padding) = frames.last().unwrap();
                    assert_eq!((*start, data.len() as u32 + padding), (head, head.length));
                }
                Ok(Some(Item::Frame(head, payload))) => frames.push((head, payload.to_vec(), 0)),
                Ok(None) => break,
                Err(violation) => return (frames, Some(violation)),
            }
        }
        assert!(piece.is_empty());
    }
    (frames, None)
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = proptest::collection::vec(any::<u8>(), 0..200);
    (0u8..12, any::<u8>(), 0u32..9, payload).prop_map(|(kind, flags, stream, mut payload)| {
        // A pad length that fits, or nothing valid would ever come of padded frames.
        if kind == kind::DATA && flags & flag::PADDED != 0 {
            let pad = payload.len() / 2;
            payload.insert(0, pad as u8);
        }
        let head = Head {
            length: payload.len() as u32,
            kind,
            flags,
            stream,
        };
        [&head.bytes()[..], &payload].concat()
    })
}

proptest! {
    #[test]
    fn the_cuts_do_not_matter(
        frames in proptest::collection::vec(any_frame(), 1..12),
        pieces in proptest::collection::vec(0usize..50, 0..60),
    ) {
        let input = frames.concat();
        let whole = deframe(&input, &[]);
        prop_assert!(whole.1.is_none());
        prop_assert_eq!(whole.0.len(), frames.len());
        prop_assert_eq!(deframe(&input, &pieces), whole);
    }

    #[test]
    fn garbage_never_panics(
        input in proptest::collection::vec(any::<u8>(), 0..400),
        pieces in proptest::collection::vec(0usize..20, 0..40),
    ) {
        deframe(&input, &pieces);
        let mut settings = PeerSettings::default();
        let _settings = parse_settings(&input, input.len() % 2 == 0, &mut settings);
        let _goaway = parse_goaway(&input);
        let _value = parse_u32(&input);
        let head = Head { length: input.len() as u32, kind: 1, flags: 0x28, stream: 1 };
        let _block = strip_headers(head, &input);
    }

    #[test]
    fn heads_round_trip(length in 0u32..1 << 24, kind: u8, flags: u8, stream in 0..=MAX_WINDOW) {
        let head = Head { length, kind, flags, stream };
        prop_assert_eq!(Head::parse(&head.bytes()), head);
    }

    #[test]
    fn header_blocks_are_cut_to_the_frame_limit(length in 0usize..70_000) {
        let block: Vec<u8> = (0..length).map(|index| index as u8).collect();
        let mut out = Vec::new();
        write_headers(&mut out, 5, &block, true, MIN_MAX_FRAME);
        let (frames, violation) = deframe(&out, &[]);
        prop_assert!(violation.is_none());
        prop_assert!(frames.iter().skip(1).all(|(head, ..)| head.kind == kind::CONTINUATION));
        prop_assert!(frames[0].0.kind == kind::HEADERS && frames[0].0.has(flag::END_STREAM));
        let ends = frames.iter().filter(|(head, ..)| head.has(flag::END_HEADERS)).count();
        prop_assert!(ends == 1 && frames.last().unwrap().0.has(flag::END_HEADERS));
        prop_assert_eq!(frames.into_iter().flat_map(|(_, piece, _)| piece).collect::<Vec<_>>(), block);
    }
}

/// What is refused is refused by its head, before a byte of it is stored.
#[test]
fn large_frames_are_refused_at_once() {
    let oversized = Head {
        length: MIN_MAX_FRAME + 1,
        kind: kind::DATA,
        flags: 0,
        stream: 1,
    };
    let (_, violation) = deframe(&oversized.bytes(), &[]);
    assert_eq!(violation.unwrap().code, code::FRAME_SIZE_ERROR);
    let length = crate::limits::MAX_CONTROL_PAYLOAD + 1;
    let head = Head {
        length,
        kind: kind::HEADERS,
        flags: 0,
        stream: 1,
    }
    .bytes();
    let mut deframer = Deframer::new(MAX_MAX_FRAME);
    let refused = deframer.next(&mut &head[..]);
    assert_eq!(refused.unwrap_err().code, code::ENHANCE_YOUR_CALM);
}

#[test]
fn our_settings_are_read_as_meant() {
    let ours = crate::Settings::default();
    let mut out = Vec::new();
    write_settings(&mut out, &ours, 777, true);
    let mut read = PeerSettings::default();
    parse_settings(&out[HEAD_LEN..], true, &mut read).unwrap();
    let expected = PeerSettings {
        table_size_changed: false,
        max_concurrent_streams: ours.max_concurrent_streams,
        initial_window: ours.stream_window,
        max_frame: ours.max_frame_size,
        max_header_list: 777,
    };
    assert_eq!(read, expected);
}
