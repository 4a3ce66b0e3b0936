//! Shows results: as tables, Markdown, one page of HTML, and as the difference of two runs.
//!
//! [`Analysis`] says what a run means; the exporters only write it down.

pub mod analysis;
pub mod cost;
pub mod explain;
pub mod figure;
pub mod floor;
pub mod latency;
#[cfg(test)]
mod specimen;
pub mod summary;

pub use analysis::Analysis;
