//! The error a file system answers a request with.

use std::fmt;
use std::io;
use std::num::NonZeroI32;

/// A positive errno value, as in `errno(3)`.
///
/// It is all the kernel takes from a failed request, so it is all a [`FileSystem`](super::FileSystem)
/// method returns. An I/O error without an errno becomes `EIO`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(NonZeroI32);

macro_rules! errno_constants {
    ($($name:ident),* $(,)?) => {
        impl Errno {
            $(#[doc = concat!("`", stringify!($name), "`")]
            pub const $name: Errno = Errno::new(libc::$name);)*
        }
    };
}

errno_constants!(
    EACCES,
    EAGAIN,
    EBADF,
    EBUSY,
    EEXIST,
    EFAULT,
    EFBIG,
    EINTR,
    EINVAL,
    EIO,
    EISDIR,
    ELOOP,
    EMFILE,
    EMLINK,
    ENAMETOOLONG,
    ENFILE,
    ENODATA,
    ENODEV,
    ENOENT,
    ENOLCK,
    ENOMEM,
    ENOSPC,
    ENOSYS,
    ENOTDIR,
    ENOTEMPTY,
    ENOTSUP,
    ENOTTY,
    ENXIO,
    EOPNOTSUPP,
    EOVERFLOW,
    EPERM,
    ERANGE,
    EROFS,
    ESTALE,
    ETXTBSY,
    EXDEV
);

impl Errno {
    /// The errno `value`; anything that is not a positive errno the kernel accepts (1..=511) becomes `EIO`.
    #[must_use]
    pub const fn new(value: i32) -> Errno {
        let value = if value > 0 && value < 512 {
            value
        } else {
            libc::EIO
        };
        match NonZeroI32::new(value) {
            Some(value) => Errno(value),
            None => unreachable!(),
        }
    }

    /// The positive errno.
    #[must_use]
    pub const fn get(self) -> i32 {
        self.0.get()
    }

    /// The errno of the last failed system call of this thread.
    #[must_use]
    pub fn last() -> Errno {
        io::Error::last_os_error().into()
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", nix::errno::Errno::from_raw(self.get()))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(nix::errno::Errno::from_raw(self.get()).desc())
    }
}

impl std::error::Error for Errno {}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Errno {
        Errno::new(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<nix::errno::Errno> for Errno {
    fn from(errno: nix::errno::Errno) -> Errno {
        Errno::new(errno as i32)
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.get())
    }
}
