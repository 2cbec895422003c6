//! Authorization of one connection by the policies that apply to its destination. Pure: knows no
//! runtime, clock, log or metric; what was decided, and by which policy, is in the [`Decision`].
//!
//! ```
//! use ambit_policy::{Connection, decide};
//! let connection = Connection {
//!     source_identity: None,
//!     source_ip: [10, 0, 0, 1].into(),
//!     destination_ip: [10, 0, 0, 2].into(),
//!     destination_port: 80,
//! };
//! assert!(decide([], &connection).is_allowed(), "without policies everything is allowed");
//! ```

mod decide;
mod matching;
mod set;
mod statics;

#[cfg(test)]
mod tests;

pub use decide::{Connection, Decision, DenyReason, DryRun, Verdict, decide};
pub use matching::matches;
pub use set::PolicySet;
pub use statics::{STRICT_POLICY_NAME, converted_name, strict, strict_ports};
