//! Decoding of header blocks.

use bytes::Bytes;

use super::table::{DynamicTable, ENTRY_OVERHEAD, Field};
use super::{huffman, integer};

/// The dynamic table that peers may use: the default, which we never change.
const TABLE_SIZE: usize = 4096;

/// A header block that cannot be decoded. The compression state is lost with it, so the
/// connection has to end (`COMPRESSION_ERROR`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The block ends inside a field.
    #[error("header block is cut short")]
    Truncated,
    /// An integer of more bytes than any valid one has.
    #[error("integer is too long")]
    Integer,
    /// Invalid Huffman code.
    #[error("invalid huffman code")]
    Huffman,
    /// An index that neither table has.
    #[error("no such index")]
    Index,
    /// A table size update above the limit or not at the start of the block.
    #[error("invalid table size update")]
    TableSize,
}

/// Decoder of one connection.
#[derive(Debug)]
pub struct Decoder {
    table: DynamicTable,
    max_list: usize,
}

/// What came of a header block.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// All fields, in order.
    Fields(Vec<(Bytes, Bytes)>),
    /// More than the header list limit allows. The compression state is intact.
    TooLarge,
}

impl Decoder {
    /// A decoder that hands out lists of up to `max_list` bytes, counted as RFC 9113 §6.5.2 does.
    pub fn new(max_list: usize) -> Self {
        Self {
            table: DynamicTable::new(TABLE_SIZE),
            max_list,
        }
    }

    /// Decodes a complete header block. A list beyond the limit is still decoded to keep the
    /// compression state, but its fields are not kept.
    ///
    /// # Errors
    /// A malformed block.
    pub fn decode(&mut self, mut block: &[u8]) -> Result<Decoded, DecodeError> {
        let mut fields = Vec::new();
        let mut size = 0;
        while let Some((&first, rest)) = block.split_first() {
            block = rest;
            if first & 0xe0 == 0x20 {
                if size > 0 {
                    return Err(DecodeError::TableSize);
                }
                self.update_size(first, &mut block)?;
                continue;
            }
            let field = self.take_field(first, &mut block)?;
            size += field.0.len() + field.1.len() + ENTRY_OVERHEAD;
            if size <= self.max_list {
                fields.push(field);
            }
        }
        Ok(if size <= self.max_list {
            Decoded::Fields(fields)
        } else {
            Decoded::TooLarge
        })
    }

    fn update_size(&mut self, first: u8, block: &mut &[u8]) -> Result<(), DecodeError> {
        let size = integer::take(first, 5, block)?;
        if size > TABLE_SIZE {
            return Err(DecodeError::TableSize);
        }
        self.table.resize(size);
        Ok(())
    }

    fn take_field(&mut self, first: u8, block: &mut &[u8]) -> Result<Field, DecodeError> {
        if first & 0x80 != 0 {
            let index = integer::take(first, 7, block)?;
            return self.table.find(index).ok_or(DecodeError::Index);
        }
        let indexed = first & 0x40 != 0;
        let name = match integer::take(first, if indexed { 6 } else { 4 }, block)? {
            0 => take_string(block)?,
            index => self.table.find(index).ok_or(DecodeError::Index)?.0,
        };
        let field = (name, take_string(block)?);
        if indexed {
            self.table.insert(field.clone());
        }
        Ok(field)
    }
}

fn take_string(block: &mut &[u8]) -> Result<Bytes, DecodeError> {
    let (&first, rest) = block.split_first().ok_or(DecodeError::Truncated)?;
    *block = rest;
    let length = integer::take(first, 7, block)?;
    let (text, rest) = block
        .split_at_checked(length)
        .ok_or(DecodeError::Truncated)?;
    *block = rest;
    if first & 0x80 == 0 {
        return Ok(Bytes::copy_from_slice(text));
    }
    // The shortest code has five bits, so this is the most that can come of it.
    let mut decoded = Vec::with_capacity(length * 8 / 5);
    huffman::decode(text, &mut decoded)?;
    Ok(Bytes::from(decoded))
}
