//! Errors of decoding and encoding: what was short or wrong, and where.

use crate::Opcode;

/// Why a message could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Fewer bytes than a request header.
    #[error("request of {got} bytes is shorter than its header of {needed}")]
    ShortHeader {
        /// Length of the header in bytes.
        needed: usize,
        /// Bytes there are.
        got: usize,
    },
    /// The header's `len` is not the number of bytes that were read.
    #[error("request {unique} (opcode {opcode}) says it has {declared} bytes, {got} were read")]
    Length {
        /// Opcode, maybe unknown.
        opcode: u32,
        /// Request id.
        unique: u64,
        /// `len` of the header.
        declared: usize,
        /// Bytes that were read.
        got: usize,
    },
    /// An operation this crate does not know; to be answered with `ENOSYS`.
    #[error("request {unique} has the unknown opcode {opcode}")]
    UnknownOpcode {
        /// Opcode.
        opcode: u32,
        /// Request id.
        unique: u64,
    },
    /// The message ends inside a structure or a field.
    #[error("{} request {unique}: {what} needs {needed} bytes, {got} left", opcode.name())]
    Short {
        /// Operation.
        opcode: Opcode,
        /// Request id.
        unique: u64,
        /// Structure or field.
        what: &'static str,
        /// Bytes it needs.
        needed: usize,
        /// Bytes left in the message.
        got: usize,
    },
    /// The message goes on after its last field.
    #[error("{} request {unique}: {excess} bytes after the last field", opcode.name())]
    Trailing {
        /// Operation.
        opcode: Opcode,
        /// Request id.
        unique: u64,
        /// Bytes that belong to no field.
        excess: usize,
    },
    /// A name is malformed.
    #[error("{} request {unique}: {field} {fault}", opcode.name())]
    Name {
        /// Operation.
        opcode: Opcode,
        /// Request id.
        unique: u64,
        /// Which name.
        field: &'static str,
        /// What is wrong with it.
        fault: NameFault,
    },
    /// The extensions of a create request are malformed.
    #[error("{} request {unique}: extensions: {fault}", opcode.name())]
    Extension {
        /// Operation.
        opcode: Opcode,
        /// Request id.
        unique: u64,
        /// What is wrong with them.
        fault: ExtensionFault,
    },
    /// A reply or notification ends too early.
    #[error("{what} needs {needed} bytes, {got} left")]
    ShortMessage {
        /// Structure or field.
        what: &'static str,
        /// Bytes it needs.
        needed: usize,
        /// Bytes left in the message.
        got: usize,
    },
    /// A reply or notification goes on after its last field, or its `len` is not its length.
    #[error("{what} has {got} bytes instead of {needed}")]
    MessageLength {
        /// Structure or kind of message.
        what: &'static str,
        /// Length it should have, in bytes.
        needed: usize,
        /// Length it has, in bytes.
        got: usize,
    },
    /// A notification of unknown code, or with a malformed name.
    #[error("malformed notification of code {code}")]
    Notification {
        /// The code.
        code: i32,
    },
}

impl DecodeError {
    /// Id of the request, where the header could be read: the request to answer with an error.
    #[must_use]
    pub fn unique(&self) -> Option<u64> {
        match self {
            Self::Length { unique, .. }
            | Self::UnknownOpcode { unique, .. }
            | Self::Short { unique, .. }
            | Self::Trailing { unique, .. }
            | Self::Name { unique, .. }
            | Self::Extension { unique, .. } => Some(*unique),
            Self::ShortHeader { .. }
            | Self::ShortMessage { .. }
            | Self::MessageLength { .. }
            | Self::Notification { .. } => None,
        }
    }

    /// Opcode of the request as the header has it, where the header could be read.
    #[must_use]
    pub fn opcode(&self) -> Option<u32> {
        match self {
            Self::Length { opcode, .. } | Self::UnknownOpcode { opcode, .. } => Some(*opcode),
            Self::Short { opcode, .. }
            | Self::Trailing { opcode, .. }
            | Self::Name { opcode, .. }
            | Self::Extension { opcode, .. } => Some(*opcode as u32),
            Self::ShortHeader { .. }
            | Self::ShortMessage { .. }
            | Self::MessageLength { .. }
            | Self::Notification { .. } => None,
        }
    }
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// No NUL before the end of the message.
    #[error("is not terminated")]
    Unterminated,
    /// Empty, where the kernel never sends an empty one.
    #[error("is empty")]
    Empty,
    /// Has a `/` in it, where it has to be a single component.
    #[error("has a slash in it")]
    Slash,
}

/// What is wrong with extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtensionFault {
    /// A structure or field goes beyond the extension it is in.
    #[error("{what} needs {needed} bytes, {got} left")]
    Short {
        /// Structure or field.
        what: &'static str,
        /// Bytes it needs.
        needed: usize,
        /// Bytes left.
        got: usize,
    },
    /// An extension's `size` does not even cover its own header.
    #[error("extension of {size} bytes is shorter than its header")]
    Size {
        /// `size` of the extension.
        size: u32,
    },
    /// The name of a security context has no NUL.
    #[error("name of a security context is not terminated")]
    Unterminated,
}

/// Why a reply or notification could not be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The buffer is too small.
    #[error("{what} needs {needed} bytes, the buffer has {room}")]
    NoRoom {
        /// Structure or kind of message.
        what: &'static str,
        /// Bytes it needs.
        needed: usize,
        /// Bytes the buffer has.
        room: usize,
    },
    /// More than the length field of the message can say.
    #[error("{what} of {len} bytes does not fit its length field")]
    TooLong {
        /// Structure or kind of message.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
    },
}
