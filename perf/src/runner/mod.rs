//! Plans a run, measures round by round, saves what it has.
