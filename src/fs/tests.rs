//! Tests of the requests.
