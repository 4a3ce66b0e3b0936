//! Requests as the kernel would send them, for tests and tools.

use zerocopy::IntoBytes;

use crate::abi::*;
use crate::{Dialect, Extensions, Operation};

/// Where the arguments of a request go.
struct Arguments<'v> {
    /// The first argument of fixed size, if it has a place of its own.
    op_in: Option<&'v mut Vec<u8>>,
    /// Everything else.
    rest: &'v mut Vec<u8>,
    /// Whether the header tells the length of extensions, which kernels of 7.36 and 7.37 leave out.
    announced: bool,
    /// Length of the extensions for the header.
    total_extlen: u16,
}

impl<'v> Arguments<'v> {
    fn new(op_in: Option<&'v mut Vec<u8>>, rest: &'v mut Vec<u8>, d: Dialect) -> Self {
        Self {
            op_in,
            rest,
            announced: !d.has_unannounced_context(),
            total_extlen: 0,
        }
    }

    fn arg<T: Wire>(&mut self, arg: &T) {
        self.arg_of(arg, size_of::<T>());
    }

    fn arg_of<T: Wire>(&mut self, arg: &T, len: usize) {
        let bytes = &arg.as_bytes()[..len];
        match &mut self.op_in {
            Some(op_in) => op_in.extend_from_slice(bytes),
            None => self.rest.extend_from_slice(bytes),
        }
    }

    fn arg_in_payload<T: Wire>(&mut self, arg: &T) {
        self.rest.extend_from_slice(arg.as_bytes());
    }

    fn text(&mut self, text: &core::ffi::CStr) {
        self.rest.extend_from_slice(text.to_bytes_with_nul());
    }

    fn data(&mut self, data: &[u8]) {
        self.rest.extend_from_slice(data);
    }

    fn extensions(&mut self, ext: Extensions<'_>) {
        let start = self.rest.len();
        self.rest.extend_from_slice(ext.as_bytes());
        if self.announced {
            // Announced in units of 8 bytes.
            let len = ext.as_bytes().len().next_multiple_of(8);
            self.rest.resize(start + len, 0);
            self.total_extlen = u16::try_from(len / 8).expect("length of extensions");
        }
    }
}

impl Operation<'_> {
    /// Encodes the request as one message, as the kernel sends it on `/dev/fuse`. Replaces what is in `out`.
    ///
    /// Arguments that the dialect does not know are left out. Lengths in the arguments are written as they are:
    /// `arg.size` of a WRITE has to be the length of its data for the result to be well-formed.
    #[expect(clippy::too_many_arguments)] // The header, field by field.
    pub fn encode_contiguous(
        &self,
        unique: u64,
        nodeid: u64,
        uid: u32,
        gid: u32,
        pid: u32,
        d: Dialect,
        out: &mut Vec<u8>,
    ) {
        out.clear();
        out.resize(size_of::<fuse_in_header>(), 0);
        let mut to = Arguments::new(None, out, d);
        self.write(&mut to, d);
        let total_extlen = to.total_extlen;
        let header = fuse_in_header {
            len: u32::try_from(out.len()).expect("length of a request"),
            opcode: self.opcode().raw(),
            unique,
            nodeid,
            uid,
            gid,
            pid,
            total_extlen,
            padding: 0,
        };
        out[..size_of::<fuse_in_header>()].copy_from_slice(header.as_bytes());
    }

    /// Encodes the request for a ring entry: returns the header, replaces what is in `op_in` and `payload`.
    ///
    /// `op_in` gets exactly the first argument; in a real entry left-over bytes follow it.
    #[expect(clippy::too_many_arguments)] // The header, field by field.
    pub fn encode_split(
        &self,
        unique: u64,
        nodeid: u64,
        uid: u32,
        gid: u32,
        pid: u32,
        d: Dialect,
        op_in: &mut Vec<u8>,
        payload: &mut Vec<u8>,
    ) -> fuse_in_header {
        op_in.clear();
        payload.clear();
        let mut to = Arguments::new(Some(op_in), payload, d);
        self.write(&mut to, d);
        let total_extlen = to.total_extlen;
        let len = size_of::<fuse_in_header>() + op_in.len() + payload.len();
        fuse_in_header {
            len: u32::try_from(len).expect("length of a request"),
            opcode: self.opcode().raw(),
            unique,
            nodeid,
            uid,
            gid,
            pid,
            total_extlen,
            padding: 0,
        }
    }

    fn write(&self, to: &mut Arguments<'_>, d: Dialect) {
        match self {
            Self::Lookup { name }
            | Self::Unlink { name }
            | Self::Rmdir { name }
            | Self::Removexattr { name } => to.text(name),
            Self::Forget(arg) => to.arg(arg),
            Self::Getattr(arg) => to.arg(arg),
            Self::Setattr(arg) => to.arg(arg),
            Self::Readlink | Self::Statfs | Self::Destroy => {}
            Self::Symlink { name, target, ext } => {
                to.text(name);
                to.text(target);
                to.extensions(*ext);
            }
            Self::Mknod { arg, name, ext } => {
                let full = size_of::<fuse_mknod_in>();
                to.arg_of(
                    arg,
                    if d.minor < 12 {
                        FUSE_COMPAT_MKNOD_IN_SIZE
                    } else {
                        full
                    },
                );
                to.text(name);
                to.extensions(*ext);
            }
            Self::Mkdir { arg, name, ext } => {
                to.arg(arg);
                to.text(name);
                to.extensions(*ext);
            }
            Self::Rename {
                newdir,
                flags,
                name,
                newname,
            } => {
                if *flags == 0 {
                    to.arg(&fuse_rename_in { newdir: *newdir });
                } else {
                    to.arg(&fuse_rename2_in {
                        newdir: *newdir,
                        flags: *flags,
                        padding: 0,
                    });
                }
                to.text(name);
                to.text(newname);
            }
            Self::Link { oldnodeid, name } => {
                to.arg(&fuse_link_in {
                    oldnodeid: *oldnodeid,
                });
                to.text(name);
            }
            Self::Open(arg) | Self::Opendir(arg) => to.arg(arg),
            Self::Read(arg) | Self::Readdir(arg) | Self::Readdirplus(arg) => to.arg(arg),
            Self::Write { arg, data } => {
                let full = size_of::<fuse_write_in>();
                to.arg_of(
                    arg,
                    if d.minor < 9 {
                        FUSE_COMPAT_WRITE_IN_SIZE
                    } else {
                        full
                    },
                );
                to.data(data);
            }
            Self::Release(arg) | Self::Releasedir(arg) => to.arg(arg),
            Self::Fsync(arg) | Self::Fsyncdir(arg) => to.arg(arg),
            Self::Setxattr { arg, name, value } => {
                let full = size_of::<fuse_setxattr_in>();
                to.arg_of(
                    arg,
                    if d.has_setxattr_ext() {
                        full
                    } else {
                        FUSE_COMPAT_SETXATTR_IN_SIZE
                    },
                );
                to.text(name);
                to.data(value);
            }
            Self::Getxattr { arg, name } => {
                to.arg(arg);
                to.text(name);
            }
            Self::Listxattr(arg) => to.arg(arg),
            Self::Flush(arg) => to.arg(arg),
            Self::Init(arg) => {
                // Kernels that know the long form say so in its flags.
                let long = arg.flags & crate::InitFlags::INIT_EXT.low() != 0;
                to.arg_of(arg, if long { size_of::<fuse_init_in>() } else { 16 });
            }
            Self::Getlk(arg) | Self::Setlk(arg) | Self::Setlkw(arg) => to.arg(arg),
            Self::Access(arg) => to.arg(arg),
            Self::Create { arg, name, ext } => {
                let full = size_of::<fuse_create_in>();
                to.arg_of(
                    arg,
                    if d.minor < 12 {
                        size_of::<fuse_open_in>()
                    } else {
                        full
                    },
                );
                to.text(name);
                to.extensions(*ext);
            }
            Self::Tmpfile { arg, name, ext } => {
                to.arg(arg);
                to.text(name);
                to.extensions(*ext);
            }
            Self::Interrupt(arg) => to.arg(arg),
            Self::Bmap(arg) => to.arg(arg),
            Self::Ioctl { arg, data } => {
                to.arg(arg);
                to.data(data);
            }
            Self::Poll(arg) => to.arg(arg),
            Self::NotifyReply { arg, data } => {
                to.arg_in_payload(arg);
                to.data(data);
            }
            Self::BatchForget(elements) => {
                let count = u32::try_from(elements.len()).expect("number of forgets");
                to.arg(&fuse_batch_forget_in { count, dummy: 0 });
                to.data(elements.as_bytes());
            }
            Self::Fallocate(arg) => to.arg(arg),
            Self::Lseek(arg) => to.arg(arg),
            Self::CopyFileRange(arg) | Self::CopyFileRange64(arg) => to.arg(arg),
            Self::Setupmapping(arg) => to.arg(arg),
            Self::Removemapping(elements) => {
                let count = u32::try_from(elements.len()).expect("number of mappings");
                to.arg_in_payload(&fuse_removemapping_in { count });
                to.data(elements.as_bytes());
            }
            Self::Syncfs(arg) => to.arg(arg),
            Self::Statx(arg) => to.arg(arg),
            Self::CuseInit(arg) => to.arg(arg),
        }
    }
}
