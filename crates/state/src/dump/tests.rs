//! The shape of the dump.
