//! Files of variables, in the format of `docker run --env-file`.
//!
//! A line is `NAME=VALUE`, the value taken as it is, quotes and all; or `NAME` alone, which passes the caller's value on.
//! Blanks before a name do not count, empty lines and those that start with `#` do not either.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::attach::environment::Setting;

/// What is wrong with a file of variables.
#[derive(Debug, thiserror::Error)]
pub enum EnvFileError {
    /// It cannot be read.
    #[error("{}", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A line is not understood.
    #[error("{}:{line}: {reason}", .path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The settings in the file at `path`, in its order.
///
/// # Errors
/// See [`EnvFileError`].
pub fn read(path: &Path) -> Result<Vec<Setting>, EnvFileError> {
    let text = std::fs::read(path).map_err(|source| EnvFileError::Read {
        path: path.to_owned(),
        source,
    })?;
    // Some editors put a mark of the byte order first.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let mut settings = Vec::new();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let setting = parse(line).map_err(|reason| EnvFileError::Line {
            path: path.to_owned(),
            line: number + 1,
            reason,
        })?;
        settings.extend(setting);
    }
    Ok(settings)
}

/// The setting on a line; none if it is empty or a comment.
fn parse(line: &[u8]) -> Result<Option<Setting>, &'static str> {
    let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    if line.contains(&0) {
        return Err("it contains NUL");
    }
    let (name, value) = match line.iter().position(|byte| *byte == b'=') {
        Some(at) => (&line[..at], Some(&line[at + 1..])),
        None => (line, None),
    };
    if name.is_empty() {
        return Err("the name of the variable is missing");
    }
    if name.iter().any(u8::is_ascii_whitespace) {
        return Err("the name of the variable contains a blank");
    }
    let name = OsStr::from_bytes(name).to_owned();
    Ok(Some(match value {
        Some(value) => Setting::Set(name, OsStr::from_bytes(value).to_owned()),
        None => Setting::Pass(name),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &[u8]) -> Result<Vec<Setting>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path()).map_err(|error| {
            let path = file.path().display().to_string();
            error.to_string().replace(&path, "FILE")
        })
    }

    #[test]
    fn lines_are_read_as_docker_reads_them() {
        let set = |name: &str, value: &str| Setting::Set(name.into(), value.into());
        let text = b"\xef\xbb\xbfA=1\n\n  # a comment\n  B= x \"y\" # z\r\nC\nD=\nE=a=b\n#F=1";
        let expected = vec![
            set("A", "1"),
            set("B", " x \"y\" # z"),
            Setting::Pass("C".into()),
            set("D", ""),
            set("E", "a=b"),
        ];
        assert_eq!(settings(text), Ok(expected));
        assert_eq!(settings(b""), Ok(Vec::new()));
    }

    #[test]
    fn errors_name_the_line() {
        for (text, expected) in [
            (
                &b"A=1\n=x"[..],
                "FILE:2: the name of the variable is missing",
            ),
            (
                b"A B=1",
                "FILE:1: the name of the variable contains a blank",
            ),
            (b"A\n\nC=\0", "FILE:3: it contains NUL"),
        ] {
            assert_eq!(settings(text), Err(expected.to_owned()));
        }
        let missing = read(Path::new("/no/such/file")).unwrap_err();
        assert_eq!(missing.to_string(), "/no/such/file");
    }
}
