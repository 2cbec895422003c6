//! Read buffers shared by all connections of a thread, lent out for the length of one poll in the
//! usual case, so that memory follows the number of *busy* connections, not of open ones.

use std::cell::RefCell;

/// Size of a shared buffer: the most one read takes. 256 KiB was the knee of the measurements;
/// beyond it bulk gains nothing and the buffer leaves the second-level cache.
pub const BUFFER_SIZE: usize = 256 * 1024;

/// Spare buffers a thread keeps. More than this are in use only while that many connections
/// wait with a half-written buffer; the surplus is freed when they are done.
const MAX_SPARE: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Takes one of the thread's buffers; pair with [`give`].
pub fn take() -> Box<[u8]> {
    SPARE
        .with(|spare| spare.borrow_mut().pop())
        .unwrap_or_else(|| vec![0; BUFFER_SIZE].into_boxed_slice())
}

/// Gives a buffer back to the thread.
pub fn give(buffer: Box<[u8]>) {
    SPARE.with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < MAX_SPARE && buffer.len() == BUFFER_SIZE {
            spare.push(buffer);
        }
    });
}

/// Runs `body` with one of the thread's buffers. May be nested.
pub fn with<R>(body: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut buffer = take();
    let result = body(&mut buffer);
    give(buffer);
    result
}
