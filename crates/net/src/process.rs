//! What the process as a whole needs: its limits raised, and its free memory given back.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the number of open files to the hard limit and returns it.
///
/// # Errors
/// What the kernel answered; the old limit stays in force.
pub fn raise_open_files() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// Allocations from this size get pages of their own, which go back when they are freed.
const OWN_PAGES: libc::c_int = 1 << 20;

/// Free bytes at the end of a heap that the allocator keeps.
const KEPT_FREE: libc::c_int = 1 << 20;

/// Free bytes within heaps that are worth a [`trim_memory`].
const WORTH_TRIMMING: usize = 4 << 20;

/// Fixes the allocator's thresholds. Left to itself it raises them with the largest block that was
/// ever freed, and from then on keeps many megabytes.
pub fn tune_memory() {
    // SAFETY: mallopt only sets parameters, under the allocator's own lock. It answers 0 for what
    // it does not take, which then stays as it was.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_FREE);
    }
}

/// Gives pages that hold nothing back to the system, if there are enough of them. Takes up to
/// milliseconds; the threads that allocate meanwhile wait for their own heap's turn only.
pub fn trim_memory() {
    // SAFETY: both walk the heaps under the allocator's own locks and touch nothing that is in use.
    unsafe {
        if libc::mallinfo2().fordblks > WORTH_TRIMMING {
            libc::malloc_trim(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident() -> u64 {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    }

    #[test]
    fn what_is_free_between_what_is_used_goes_back() {
        tune_memory();
        let mut all: Vec<_> = (0..2000).map(|_| Some(vec![1_u8; 32 * 1024])).collect();
        let full = resident();
        for one in all.iter_mut().skip(1).step_by(2) {
            *one = None;
        }
        trim_memory();
        let trimmed = resident();
        assert!(trimmed + 20_000_000 < full, "{full} {trimmed}");
        drop(all);
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let hard = raise_open_files().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }
}
