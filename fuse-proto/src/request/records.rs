//! Arrays of structures in requests: BATCH_FORGET and REMOVEMAPPING.

use zerocopy::FromBytes;

use crate::{fuse_forget_one, fuse_removemapping_one};

/// Declares an iterator over the elements of an array whose length was checked.
macro_rules! records {
    ($(#[$meta:meta])* $name:ident of $element:ty) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name<'a> {
            bytes: &'a [u8],
        }

        impl<'a> $name<'a> {
            /// From the elements as they are on the wire; an incomplete one at the end is left out.
            #[must_use]
            pub fn new(bytes: &'a [u8]) -> Self {
                let whole = bytes.len() - bytes.len() % size_of::<$element>();
                Self { bytes: &bytes[..whole] }
            }

            /// Number of elements left.
            #[must_use]
            pub fn len(&self) -> usize {
                self.bytes.len() / size_of::<$element>()
            }

            /// Whether no element is left.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.bytes.is_empty()
            }

            /// The elements left, as they are on the wire.
            #[must_use]
            pub fn as_bytes(&self) -> &'a [u8] {
                self.bytes
            }
        }

        impl Iterator for $name<'_> {
            type Item = $element;

            fn next(&mut self) -> Option<Self::Item> {
                let (element, rest) = <$element>::read_from_prefix(self.bytes).ok()?;
                self.bytes = rest;
                Some(element)
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                (self.len(), Some(self.len()))
            }
        }

        impl ExactSizeIterator for $name<'_> {}
    };
}

records! {
    /// The elements of a BATCH_FORGET.
    Forgets of fuse_forget_one
}

records! {
    /// The elements of a REMOVEMAPPING.
    Removals of fuse_removemapping_one
}
