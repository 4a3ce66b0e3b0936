//! Shows results: as tables, Markdown, one page of HTML, and as the difference of two runs.
//!
//! [`Analysis`] says what a run means; the exporters only write it down.

pub mod analysis;
pub mod command;
pub mod compare;
pub mod content;
pub mod cost;
pub mod explain;
pub mod exporter;
pub mod facts;
pub mod figure;
pub mod floor;
pub mod html;
pub mod latency;
pub mod mark;
pub mod markdown;
pub mod output;
pub mod sheet;
#[cfg(test)]
mod specimen;
pub mod summary;
pub mod table;

pub use analysis::Analysis;
pub use command::{Format, ReportArgs, run, write_all};
pub use compare::CompareArgs;
pub use exporter::{Exporter, Json};
pub use html::Html;
pub use markdown::Markdown;
pub use table::Terminal;
