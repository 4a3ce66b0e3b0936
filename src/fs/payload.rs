//! What a WRITE brings, in memory or in a pipe, on its way into a file of the host.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use crate::engine::{Context, Errno, Payload, Result};
use crate::sys::file;

/// A part of what is to be written.
#[derive(Clone, Copy)]
pub enum Chunk<'a> {
    /// In memory.
    Bytes(&'a [u8]),
    /// So many bytes in a pipe.
    Pipe(BorrowedFd<'a>, usize),
}

impl Chunk<'_> {
    /// Writes it to `file` at `offset`; how much was written.
    pub fn write(self, file: &File, offset: i64) -> io::Result<usize> {
        match self {
            Chunk::Bytes(bytes) => file.write_at(bytes, offset as u64),
            Chunk::Pipe(pipe, len) => match file::splice_to(pipe, file.as_fd(), offset, len) {
                // A file system that cannot: nothing has left the pipe.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    let bytes = Gathered::of(Payload::Pipe(pipe, len))?;
                    file.write_all_at(bytes.as_ref(), offset as u64)?;
                    Ok(len)
                }
                written => written,
            },
        }
    }
}

/// Writes all of `payload`, in parts if need be. An error after something was written is not reported: the next write
/// will find it again.
pub fn put(
    cx: &Context<'_>,
    payload: Payload<'_>,
    write: impl Fn(Chunk<'_>, i64) -> io::Result<usize>,
) -> Result<u32> {
    let len = match payload {
        Payload::Bytes(bytes) => bytes.len(),
        Payload::Pipe(_, len) => len,
    };
    let mut done = 0;
    while done < len {
        let chunk = match payload {
            Payload::Bytes(bytes) => Chunk::Bytes(&bytes[done..]),
            Payload::Pipe(pipe, len) => Chunk::Pipe(pipe, len - done),
        };
        match write(chunk, done as i64) {
            Ok(0) => break,
            Ok(written) => done += written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted && !cx.interrupted() => (),
            Err(_) if done > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    u32::try_from(done).map_err(|_| Errno::EIO)
}

/// Writes all of `payload` at the end of `file`, which has `O_APPEND` set: the position is ignored.
pub fn put_appending(cx: &Context<'_>, file: &File, payload: Payload<'_>) -> Result<u32> {
    let bytes = Gathered::of(payload)?;
    put(cx, Payload::Bytes(bytes.as_ref()), |chunk, _| {
        chunk.write(file, 0)
    })
}

/// A payload in memory.
pub enum Gathered<'a> {
    /// As it came.
    Borrowed(&'a [u8]),
    /// From a pipe.
    Read(Vec<u8>),
}

impl<'a> Gathered<'a> {
    /// Reads a payload that is in a pipe: splice(2) can neither append nor go around `O_APPEND`.
    pub fn of(payload: Payload<'a>) -> Result<Gathered<'a>> {
        let (pipe, len) = match payload {
            Payload::Bytes(bytes) => return Ok(Gathered::Borrowed(bytes)),
            Payload::Pipe(pipe, len) => (pipe, len),
        };
        let mut bytes = vec![0; len];
        let mut done = 0;
        while done < len {
            match nix::unistd::read(pipe, &mut bytes[done..]) {
                Ok(0) => return Err(Errno::EIO),
                Ok(read) => done += read,
                Err(nix::errno::Errno::EINTR) => (),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(Gathered::Read(bytes))
    }

    /// Its bytes.
    pub fn as_ref(&self) -> &[u8] {
        match self {
            Gathered::Borrowed(bytes) => bytes,
            Gathered::Read(bytes) => bytes,
        }
    }
}
