//! Encoding of header blocks.

use super::integer;
use super::table::STATIC;

/// Builds one header block.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Encoder<'a> {
    /// Starts a block at the end of `out`. `table_size_changed` says that the peer named a table
    /// size since the last block; the answer is always that no table is used.
    pub fn new(out: &'a mut Vec<u8>, table_size_changed: bool) -> Self {
        if table_size_changed {
            out.push(0x20);
        }
        Self { out }
    }

    /// Appends a field. `name` must be lower case.
    pub fn field(&mut self, name: &str, value: &[u8]) -> &mut Self {
        let position = STATIC.iter().position(|entry| entry.0 == name);
        if let Some(first) = position {
            let same_name = STATIC[first..].iter().take_while(|entry| entry.0 == name);
            if let Some(offset) = same_name.into_iter().position(|e| e.1.as_bytes() == value) {
                integer::put(self.out, 0x80, 7, first + offset + 1);
                return self;
            }
        }
        integer::put(self.out, 0x00, 4, position.map_or(0, |index| index + 1));
        if position.is_none() {
            self.string(name.as_bytes());
        }
        self.string(value);
        self
    }

    fn string(&mut self, text: &[u8]) {
        integer::put(self.out, 0x00, 7, text.len());
        self.out.extend_from_slice(text);
    }
}
