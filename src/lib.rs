//! cntr.
#![deny(unsafe_code)]
