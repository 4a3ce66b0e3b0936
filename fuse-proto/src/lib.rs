#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod abi;
pub mod dialect;
pub mod dirent;
mod encode;
pub mod error;
pub mod extension;
pub mod flags;
pub mod ioctl;
pub mod notify;
pub mod opcode;
pub mod reply;
pub mod request;
pub mod uring;

pub use abi::*;
pub use dialect::Dialect;
pub use dirent::{Dirent, DirentPlus, DirentPlusWriter, DirentWriter, Dirents, DirentsPlus, Full};
pub use error::{DecodeError, EncodeError, ExtensionFault, NameFault};
pub use extension::Extensions;
pub use flags::*;
pub use opcode::Opcode;
pub use reply::{ReplyWriter, out_header};
pub use request::{Forgets, Operation, Removals, Request, peek_header};
