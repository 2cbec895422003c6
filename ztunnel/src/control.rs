//! The agent's side of the control plane: channels with their credentials, the handlers that turn
//! discovery's resources into the state, certificates and what is kept ready of them. Knows
//! nothing of connections or pods' namespaces.

pub mod certificates;
pub mod channel;
pub mod discovery;
pub mod limits;
pub mod local;
pub mod prefetch;
pub mod resources;

pub use channel::{ChannelError, Server};
