//! The maps behind readers and writer.
