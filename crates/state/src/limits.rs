//! Bounds on what others can make the state hold or do beyond what discovery itself sends.

use std::time::Duration;

/// Endpoints remembered for refusing. A workload that connects to ever new dead endpoints would
/// otherwise grow the table; past the bound the entry that was quiet for longest is forgotten.
pub const OUTLIER_ENTRIES: usize = 1024;

/// Refusals in a row before an endpoint is left out.
pub const OUTLIER_THRESHOLD: u32 = 3;

/// How long an endpoint is left out the first time; doubled each further time in a row.
pub const OUTLIER_BASE: Duration = Duration::from_secs(5);

/// The longest time an endpoint is left out.
pub const OUTLIER_MAX: Duration = Duration::from_secs(120);

/// Refusals are forgotten when none followed for so long.
pub const OUTLIER_MEMORY: Duration = Duration::from_secs(300);
