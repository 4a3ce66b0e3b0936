//! What can be measured.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// An operation of the load generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Attributes of few names, again and again
    Stat,
    /// Attributes of names that the kernel does not know: they are dropped before (root only)
    Lookup,
    /// Attributes of open files
    Fstat,
    /// Make a file, close it
    Create,
    /// Open a file, close it
    Open,
    /// Open a file, read one block, close it
    ReadSmall,
    /// Change permissions by name
    Chmod,
    /// Set an attribute of open files
    Setxattr,
    /// Read an attribute of open files
    Getxattr,
    /// Give a file another name and, in the next pass, its old one
    Rename,
    /// Remove a file
    Unlink,
    /// Make a directory
    Mkdir,
    /// Remove a directory
    Rmdir,
    /// Make a symbolic link
    Symlink,
    /// Read a symbolic link
    Readlink,
    /// Make a further name for a file
    Link,
    /// Read a directory and the attributes of each entry; counts entries
    Readdir,
    /// Usage of the file system
    Statfs,
    /// Read a file from its start to its end, again and again
    ReadSequential,
    /// Read blocks of a file at random
    ReadRandom,
    /// Overwrite a file from its start to its end, again and again
    WriteSequential,
    /// Overwrite blocks of a file at random
    WriteRandom,
}

/// What an operation does to the names it works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it can be repeated.
    Keeps,
    /// Makes one that must not be there.
    Makes,
    /// Removes one that must be there.
    Removes,
    /// Makes the kernel know it.
    Learns,
}

/// What an operation needs to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A file of this many bytes.
    File(usize),
    /// An empty directory.
    Directory,
    /// A symbolic link.
    Link,
}

impl Operation {
    /// Whether it moves the data of one large file.
    pub fn is_data(self) -> bool {
        matches!(
            self,
            Operation::ReadSequential
                | Operation::ReadRandom
                | Operation::WriteSequential
                | Operation::WriteRandom
        )
    }

    /// Whether it writes data.
    pub fn writes(self) -> bool {
        matches!(self, Operation::WriteSequential | Operation::WriteRandom)
    }

    /// What it does to the names it works on.
    pub fn effect(self) -> Effect {
        match self {
            Operation::Create | Operation::Mkdir | Operation::Symlink | Operation::Link => {
                Effect::Makes
            }
            Operation::Unlink | Operation::Rmdir => Effect::Removes,
            Operation::Lookup => Effect::Learns,
            _ => Effect::Keeps,
        }
    }

    /// What it works on, with blocks of `block` bytes.
    pub fn item(self, block: usize) -> Item {
        match self {
            Operation::ReadSmall => Item::File(block),
            Operation::Rmdir | Operation::Mkdir => Item::Directory,
            Operation::Readlink | Operation::Symlink => Item::Link,
            _ => Item::File(0),
        }
    }

    /// Whether it works on files that are open.
    pub fn on_open_files(self) -> bool {
        matches!(
            self,
            Operation::Fstat | Operation::Setxattr | Operation::Getxattr
        )
    }

    /// Names per client unless said otherwise.
    pub fn default_files(self) -> u64 {
        match self {
            Operation::Fstat | Operation::Setxattr | Operation::Getxattr => 8,
            Operation::Stat => 64,
            Operation::Statfs => 0,
            _ if self.effect() == Effect::Keeps => 1000,
            _ => 10_000,
        }
    }

    /// What is counted.
    pub fn unit(self) -> &'static str {
        match self {
            Operation::Readdir => "entries",
            _ => "operations",
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value()
            .expect("no operation is hidden")
            .get_name()
            .to_owned()
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}
