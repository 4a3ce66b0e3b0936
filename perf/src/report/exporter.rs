//! The one interface of everything that writes a report.

use std::io::{self, Write};

use super::analysis::Analysis;

/// Writes a run down in some format.
pub trait Exporter {
    /// Writes it.
    ///
    /// # Errors
    /// `out` cannot be written.
    fn export(&self, analysis: &Analysis<'_>, out: &mut dyn Write) -> io::Result<()>;
}

/// The file of results itself.
#[derive(Clone, Copy, Debug)]
pub struct Json;

impl Exporter for Json {
    fn export(&self, analysis: &Analysis<'_>, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, analysis.run)?;
        writeln!(out)
    }
}
