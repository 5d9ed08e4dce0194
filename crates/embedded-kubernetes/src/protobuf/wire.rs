//! The wire format of protobuf: numbered fields that contain numbers or bytes.

/// The content of a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum FieldContent<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Iterates over the fields of a message.
#[derive(Debug)]
pub(super) struct FieldReader<'a> {
    rest: &'a [u8],
}

impl<'a> FieldReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, FieldContent<'a>)> {
        let tag = self.varint()?;
        let content = match tag & 7 {
            0 => FieldContent::Number(self.varint()?),
            1 => {
                FieldContent::Number(self.take(8)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
            }
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                FieldContent::Bytes(self.take(length)?)
            }
            5 => {
                FieldContent::Number(self.take(4)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
            }
            _ => return None,
        };
        Some((tag >> 3, content))
    }
}

impl<'a> Iterator for FieldReader<'a> {
    type Item = Result<(u64, FieldContent<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or_else(|| "unexpected EOF".to_owned()))
    }
}
