//! Medians, intervals and significance of few samples.
