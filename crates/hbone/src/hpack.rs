//! Header compression (RFC 7541). Decoding is complete and bounded; encoding is the simplest that
//! is valid: no dynamic table, no Huffman, names from the static table where it has them.
//! Pure: bytes in, fields out. It refuses to know which fields HTTP allows.

mod decoder;
mod encoder;
mod huffman;
mod integer;
mod table;
#[cfg(test)]
mod tests;

pub use decoder::{DecodeError, Decoded, Decoder};
pub use encoder::Encoder;
