//! Round trips through the protocol's types, and what is refused.

mod refusals;
mod round_trips;
mod sharing;
mod strategies;
