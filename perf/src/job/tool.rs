//! Finds the programs that workloads and targets use.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Where programs are that are not in everybody's PATH.
const FURTHER: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/libexec"];

/// The program of that name: in PATH, in the directories of system programs, in PostgreSQL's own directory. A path is
/// returned as it is if it can be executed.
pub fn find(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    let name = name.as_ref();
    if name.as_encoded_bytes().contains(&b'/') {
        return Some(PathBuf::from(name)).filter(|path| executable(path));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(FURTHER.iter().map(PathBuf::from))
        .chain(postgresql())
        .map(|directory| directory.join(name))
        .find(|path| executable(path))
}

/// Directories of PostgreSQL's programs, the newest version first.
fn postgresql() -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    versions.reverse();
    versions.into_iter().map(|(_, path)| path).collect()
}

fn executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// What is missing of `names`, as a message: `fio is not installed`.
pub fn missing(names: &[&str]) -> Option<String> {
    let missing: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| find(name).is_none())
        .collect();
    match missing.as_slice() {
        [] => None,
        [one] => Some(format!("{one} is not installed")),
        many => Some(format!("{} are not installed", many.join(", "))),
    }
}

/// The first line that `argv` prints, on either stream.
pub fn first_line(argv: &[&str]) -> Option<String> {
    let (program, arguments) = argv.split_first()?;
    let output = std::process::Command::new(find(program)?)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    [output.stdout, output.stderr].iter().find_map(|bytes| {
        String::from_utf8_lossy(bytes)
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty())
            .map(str::to_owned)
    })
}

/// Versions of the tools that were found, by name.
pub fn versions(tools: &[(&str, &[&str])]) -> BTreeMap<String, String> {
    tools
        .iter()
        .filter_map(|(name, argv)| Some(((*name).to_owned(), first_line(argv)?)))
        .collect()
}
