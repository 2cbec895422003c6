//! Every bound of this crate, in one place. Sizes of the maps are in `ambit_ebpf_common`.

use std::time::Duration;

/// How many addresses one pod may have; the programs compare them one by one.
pub const MAX_ADDRESSES: usize = ambit_ebpf_common::MAX_ADDRESSES;

/// How long to wait for another agent that holds the lock of the same bpffs directory. It holds it for
/// single enrolments only, so a longer wait means that it hangs.
pub(crate) const LOCK_WAIT: Duration = Duration::from_secs(10);

/// How often the lock is tried while waiting.
pub(crate) const LOCK_RETRY: Duration = Duration::from_millis(10);
