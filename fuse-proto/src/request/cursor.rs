//! Reading the arguments of a request one after the other.

use core::ffi::CStr;

use super::{DecodeError, Dialect, Extensions, NameFault, Opcode};
use crate::abi::{Wire, fuse_in_header, fuse_lk_in, fuse_read_in};

/// What is left of a request.
///
/// The first argument of fixed size comes from `op_in` if there is one, everything else from the front of `rest`.
pub(super) struct Cursor<'a> {
    opcode: Opcode,
    unique: u64,
    total_extlen: u16,
    op_in: Option<&'a [u8]>,
    rest: &'a [u8],
    dialect: Dialect,
    /// The argument may have grown in later versions: do not mind bytes after it.
    open_ended: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(
        opcode: Opcode,
        header: &fuse_in_header,
        op_in: Option<&'a [u8]>,
        rest: &'a [u8],
        dialect: Dialect,
    ) -> Self {
        Self {
            opcode,
            unique: header.unique,
            total_extlen: header.total_extlen,
            op_in,
            rest,
            dialect,
            open_ended: false,
        }
    }

    fn short(&self, what: &'static str, needed: usize, got: usize) -> DecodeError {
        DecodeError::Short {
            opcode: self.opcode,
            unique: self.unique,
            what,
            needed,
            got,
        }
    }

    fn bad_name(&self, field: &'static str, fault: NameFault) -> DecodeError {
        DecodeError::Name {
            opcode: self.opcode,
            unique: self.unique,
            field,
            fault,
        }
    }

    fn take(&mut self, what: &'static str, len: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(len) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.short(what, len, self.rest.len())),
        }
    }

    /// The bytes the argument of fixed size is at the start of.
    fn arg_bytes(&self) -> &'a [u8] {
        self.op_in.unwrap_or(self.rest)
    }

    /// The argument of fixed size.
    pub(super) fn arg<T: Wire>(&mut self) -> Result<T, DecodeError> {
        if let Ok((arg, rest)) = T::read_from_prefix(self.arg_bytes()) {
            if self.op_in.is_none() {
                self.rest = rest;
            }
            return Ok(arg);
        }
        Err(self.short(T::NAME, size_of::<T>(), self.arg_bytes().len()))
    }

    /// The argument of fixed size of an operation that has it in the payload of a ring entry, and nothing in `op_in`.
    pub(super) fn arg_in_payload<T: Wire>(&mut self) -> Result<T, DecodeError> {
        self.op_in = None;
        self.arg()
    }

    /// The argument in a form of exactly `len` bytes, zeroes in place of the rest of it.
    pub(super) fn arg_of<T: Wire>(&mut self, len: usize) -> Result<T, DecodeError> {
        let bytes = self.arg_bytes();
        let Some((head, rest)) = bytes.split_at_checked(len) else {
            return Err(self.short(T::NAME, len, bytes.len()));
        };
        let mut arg = T::default();
        arg.as_mut_bytes()[..len].copy_from_slice(head);
        if self.op_in.is_none() {
            self.rest = rest;
        }
        Ok(arg)
    }

    /// The argument whole if there are enough bytes, or else its first `shortest` bytes. Only for operations that have
    /// nothing after it.
    pub(super) fn arg_of_at_least<T: Wire>(&mut self, shortest: usize) -> Result<T, DecodeError> {
        if shortest < size_of::<T>() && self.arg_bytes().len() < size_of::<T>() {
            self.arg_of(shortest)
        } else {
            self.arg()
        }
    }

    /// The argument of INIT: as much of it as there is, `shortest` bytes at least, and no limit to what follows.
    pub(super) fn growing_arg<T: Wire>(&mut self, shortest: usize) -> Result<T, DecodeError> {
        let len = self.arg_bytes().len();
        self.open_ended = true;
        self.arg_of(len.clamp(shortest, size_of::<T>()))
    }

    /// The argument of READ, which may end after 24 bytes below 7.9.
    pub(super) fn read_arg(&mut self) -> Result<fuse_read_in, DecodeError> {
        self.arg_of_at_least(if self.dialect.minor < 9 {
            24
        } else {
            size_of::<fuse_read_in>()
        })
    }

    /// The argument of the lock operations, which may end after 40 bytes below 7.9.
    pub(super) fn lock_arg(&mut self) -> Result<fuse_lk_in, DecodeError> {
        self.arg_of_at_least(if self.dialect.minor < 9 {
            40
        } else {
            size_of::<fuse_lk_in>()
        })
    }

    /// Any NUL-terminated text.
    pub(super) fn text(&mut self, field: &'static str) -> Result<&'a CStr, DecodeError> {
        let Ok(text) = CStr::from_bytes_until_nul(self.rest) else {
            return Err(self.bad_name(field, NameFault::Unterminated));
        };
        self.rest = &self.rest[text.to_bytes_with_nul().len()..];
        Ok(text)
    }

    /// A path component.
    pub(super) fn name(&mut self, field: &'static str) -> Result<&'a CStr, DecodeError> {
        let name = self.text(field)?;
        if name.is_empty() {
            return Err(self.bad_name(field, NameFault::Empty));
        }
        if name.to_bytes().contains(&b'/') {
            return Err(self.bad_name(field, NameFault::Slash));
        }
        Ok(name)
    }

    /// Name of an extended attribute.
    pub(super) fn xattr_name(&mut self) -> Result<&'a CStr, DecodeError> {
        let name = self.text("name")?;
        if name.is_empty() {
            return Err(self.bad_name("name", NameFault::Empty));
        }
        Ok(name)
    }

    /// Data of a length an argument gave.
    pub(super) fn data(&mut self, what: &'static str, len: u32) -> Result<&'a [u8], DecodeError> {
        self.take(what, len as usize)
    }

    /// The bytes of `count` elements of 16 bytes.
    pub(super) fn records(&mut self, count: u32) -> Result<&'a [u8], DecodeError> {
        self.take("elements", (count as usize).saturating_mul(16))
    }

    /// The extensions of a create request.
    pub(super) fn extensions(&mut self) -> Result<Extensions<'a>, DecodeError> {
        let bytes = if self.total_extlen > 0 {
            self.take("extensions", usize::from(self.total_extlen) * 8)?
        } else if self.dialect.has_unannounced_context() {
            core::mem::take(&mut self.rest)
        } else {
            &[]
        };
        Extensions::parse(bytes).map_err(|fault| DecodeError::Extension {
            opcode: self.opcode,
            unique: self.unique,
            fault,
        })
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() || self.open_ended {
            return Ok(());
        }
        Err(DecodeError::Trailing {
            opcode: self.opcode,
            unique: self.unique,
            excess: self.rest.len(),
        })
    }
}
