//! Tests of the copy loop.
