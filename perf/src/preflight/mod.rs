//! Refuses or warns before anything is measured, and captures the environment.
