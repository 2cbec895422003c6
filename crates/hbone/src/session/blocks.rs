//! Receive buffers of a thread. What is read into one is decrypted in place and handed to streams
//! as slices of it; the buffer is used again as soon as the last slice is gone.

use std::cell::RefCell;

use ambit_net::copy::buffers::BUFFER_SIZE;
use bytes::BytesMut;

/// Buffers kept per thread, with or without slices outstanding.
const MAX_KEPT: usize = 4;

thread_local! {
    static KEPT: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer with room for a full read.
pub(super) fn take() -> BytesMut {
    KEPT.with(|kept| {
        let mut kept = kept.borrow_mut();
        let free = kept
            .iter_mut()
            .position(|block| block.try_reclaim(BUFFER_SIZE));
        free.map(|index| kept.swap_remove(index))
    })
    .unwrap_or_else(|| BytesMut::with_capacity(BUFFER_SIZE))
}

/// Gives back a buffer, whatever was split off it.
pub(super) fn give(mut block: BytesMut) {
    block.clear();
    KEPT.with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() == MAX_KEPT {
            kept.remove(0);
        }
        kept.push(block);
    });
}
