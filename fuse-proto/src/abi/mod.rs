//! The structures of the wire protocol, with the names and field names of the kernel's `linux/fuse.h`.
//!
//! Every structure is `#[repr(C)]`, free of hidden padding, in host byte order, and exactly as long as the
//! kernel's (checked at compile time here, and against the system's C header by `tests/abi.rs`). All of them
//! implement [`Wire`], so that they can be read from and written to bytes of any alignment without `unsafe`.
//!
//! Fields called `padding`, `dummy`, `unused`, `reserved` or `spare` must be zero in what a server sends.
//! A doc line such as "Since 7.9" names the protocol minor that brought the item; items without such a line
//! are as old as the protocol.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A structure of the wire protocol.
///
/// The constants describe the layout for error messages and for the test that compares it with the C header.
pub trait Wire: FromBytes + IntoBytes + KnownLayout + Immutable + Copy + Default + 'static {
    /// The kernel's name of the structure, without the keyword `struct`.
    const NAME: &'static str;
    /// Name and offset in bytes of every field, in order.
    const FIELDS: &'static [(&'static str, usize)];
}

/// Declares wire structures: derives, size check (the number after the name is `sizeof`) and [`Wire`].
macro_rules! wire {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident : $size:literal {
            $( $(#[$field_meta:meta])* pub $field:ident : $ty:ty ),* $(,)?
        }
    )*) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)]
        #[repr(C)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
        }

        impl $crate::abi::Wire for $name {
            const NAME: &'static str = stringify!($name);
            const FIELDS: &'static [(&'static str, usize)] =
                &[ $( (stringify!($field), ::core::mem::offset_of!($name, $field)) ),* ];
        }

        const _: () = assert!(::core::mem::size_of::<$name>() == $size);
    )* };
}
pub(crate) use wire;

mod attr;
mod dax;
mod device;
mod entry;
mod extension;
mod file;
mod header;
mod init;
mod lock;
mod notification;
mod xattr;

pub use attr::*;
pub use dax::*;
pub use device::*;
pub use entry::*;
pub use extension::*;
pub use file::*;
pub use header::*;
pub use init::*;
pub use lock::*;
pub use notification::*;
pub use xattr::*;
