//! Extensions at the end of create requests: security contexts and supplementary groups.
//!
//! The extensions are a sequence of records, each starting at a multiple of 8 bytes with a
//! [`fuse_ext_header`]. Records of a kind this crate does not know are passed over.

use core::ffi::CStr;

use zerocopy::{FromBytes, IntoBytes};

use crate::{
    ExtensionFault, FUSE_EXT_GROUPS, FUSE_MAX_NR_SECCTX, Wire, fuse_ext_header, fuse_secctx,
    fuse_secctx_header, fuse_supp_groups,
};

/// The extensions of a request, checked when it was decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions<'a> {
    bytes: &'a [u8],
}

impl<'a> Extensions<'a> {
    /// Checks extensions as they are on the wire.
    ///
    /// # Errors
    ///
    /// If a record or something in it goes beyond the record or beyond `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ExtensionFault> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (record, next) = split_record(rest)?;
            record.check()?;
            rest = next;
        }
        Ok(Self { bytes })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The extensions as they are on the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Security contexts: the name of the extended attribute (`security.selinux`) and the label to give it.
    ///
    /// At most one with the kernels so far. A record without any context is sent when the host has no
    /// security module that labels files.
    pub fn security_contexts(&self) -> impl Iterator<Item = (&'a CStr, &'a [u8])> + use<'a> {
        records(self.bytes).flat_map(|record| {
            let count = if record.kind <= FUSE_MAX_NR_SECCTX {
                record.kind
            } else {
                0
            };
            let mut rest = record.body;
            (0..count).map_while(move |_| {
                let (name, label, next) = split_context(rest).ok()?;
                rest = next;
                Some((name, label))
            })
        })
    }

    /// Supplementary groups of the caller. The kernel sends the group of the parent directory, if the
    /// caller is in it, and nothing otherwise.
    pub fn supplementary_groups(&self) -> impl Iterator<Item = u32> + use<'a> {
        records(self.bytes)
            .filter(|record| record.kind == FUSE_EXT_GROUPS)
            .flat_map(|record| {
                group_ids(record.body)
                    .unwrap_or_default()
                    .chunks_exact(4)
                    .filter_map(|id| u32::read_from_bytes(id).ok())
            })
    }

    /// Appends a record of security contexts to `out`, in the form the kernel sends.
    ///
    /// # Panics
    ///
    /// With more than [`FUSE_MAX_NR_SECCTX`] contexts or more than 4 GiB of them.
    pub fn encode_security_contexts(contexts: &[(&CStr, &[u8])], out: &mut Vec<u8>) {
        let start = out.len();
        let count = u32::try_from(contexts.len()).expect("number of security contexts");
        assert!(count <= FUSE_MAX_NR_SECCTX, "too many security contexts");
        out.extend_from_slice(fuse_secctx_header::default().as_bytes());
        for (name, label) in contexts {
            let size = u32::try_from(label.len()).expect("length of a security label");
            out.extend_from_slice(fuse_secctx { size, padding: 0 }.as_bytes());
            out.extend_from_slice(name.to_bytes_with_nul());
            out.extend_from_slice(label);
            pad(start, out);
        }
        let size = u32::try_from(out.len() - start).expect("length of an extension");
        let header = fuse_secctx_header {
            size,
            nr_secctx: count,
        };
        out[start..start + size_of::<fuse_secctx_header>()].copy_from_slice(header.as_bytes());
    }

    /// Appends a record of supplementary groups to `out`, in the form the kernel sends.
    ///
    /// # Panics
    ///
    /// With more than 4 GiB of groups.
    pub fn encode_supplementary_groups(groups: &[u32], out: &mut Vec<u8>) {
        let start = out.len();
        let nr_groups = u32::try_from(groups.len()).expect("number of groups");
        out.extend_from_slice(fuse_ext_header::default().as_bytes());
        out.extend_from_slice(fuse_supp_groups { nr_groups }.as_bytes());
        out.extend_from_slice(groups.as_bytes());
        pad(start, out);
        let size = u32::try_from(out.len() - start).expect("length of an extension");
        let header = fuse_ext_header {
            size,
            r#type: FUSE_EXT_GROUPS,
        };
        out[start..start + size_of::<fuse_ext_header>()].copy_from_slice(header.as_bytes());
    }
}

/// Zeroes up to the next multiple of 8 bytes after `start`.
fn pad(start: usize, out: &mut Vec<u8>) {
    let len = (out.len() - start).next_multiple_of(8);
    out.resize(start + len, 0);
}

/// One extension: its kind and what follows its header.
struct Record<'a> {
    kind: u32,
    body: &'a [u8],
}

impl Record<'_> {
    fn check(&self) -> Result<(), ExtensionFault> {
        match self.kind {
            0..=FUSE_MAX_NR_SECCTX => {
                let mut rest = self.body;
                for _ in 0..self.kind {
                    (_, _, rest) = split_context(rest)?;
                }
                Ok(())
            }
            FUSE_EXT_GROUPS => group_ids(self.body).map(|_| ()),
            _ => Ok(()),
        }
    }
}

/// The records of extensions that were checked before.
fn records(bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (record, next) = split_record(rest).ok()?;
        rest = next;
        Some(record)
    })
}

/// Takes one record off the front; the padding after it goes with it.
fn split_record(bytes: &[u8]) -> Result<(Record<'_>, &[u8]), ExtensionFault> {
    let (header, _) = take::<fuse_ext_header>(bytes)?;
    let size = header.size as usize;
    if size < size_of::<fuse_ext_header>() {
        return Err(ExtensionFault::Size { size: header.size });
    }
    let whole = bytes.get(..size).ok_or(ExtensionFault::Short {
        what: "extension",
        needed: size,
        got: bytes.len(),
    })?;
    let next = bytes.get(size.next_multiple_of(8)..).unwrap_or_default();
    let body = &whole[size_of::<fuse_ext_header>()..];
    Ok((
        Record {
            kind: header.r#type,
            body,
        },
        next,
    ))
}

/// Takes one security context off the front: name, label, and the rest after the padding.
fn split_context(bytes: &[u8]) -> Result<(&CStr, &[u8], &[u8]), ExtensionFault> {
    let (context, rest) = take::<fuse_secctx>(bytes)?;
    let name = CStr::from_bytes_until_nul(rest).map_err(|_| ExtensionFault::Unterminated)?;
    let name_len = name.to_bytes_with_nul().len();
    let label_len = context.size as usize;
    let label = rest[name_len..]
        .get(..label_len)
        .ok_or(ExtensionFault::Short {
            what: "security label",
            needed: label_len,
            got: rest.len() - name_len,
        })?;
    let len = size_of::<fuse_secctx>() + name_len + label_len;
    Ok((
        name,
        label,
        bytes.get(len.next_multiple_of(8)..).unwrap_or_default(),
    ))
}

/// The bytes of the group ids in a record.
fn group_ids(body: &[u8]) -> Result<&[u8], ExtensionFault> {
    let (head, rest) = take::<fuse_supp_groups>(body)?;
    let needed = (head.nr_groups as usize).saturating_mul(4);
    rest.get(..needed).ok_or(ExtensionFault::Short {
        what: "group ids",
        needed,
        got: rest.len(),
    })
}

fn take<T: Wire>(bytes: &[u8]) -> Result<(T, &[u8]), ExtensionFault> {
    T::read_from_prefix(bytes).map_err(|_| ExtensionFault::Short {
        what: T::NAME,
        needed: size_of::<T>(),
        got: bytes.len(),
    })
}
