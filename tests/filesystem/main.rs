//! What programs do with the view of a directory, one property per test. Each is what the same program sees on the
//! directory itself.

mod bounds;
mod carried;
mod coherence;
mod create;
mod data;
mod descriptors;
mod directory;
mod end;
mod lock;
mod metadata;
mod namespace;
mod permission;
mod rivals;
mod scheduling;
mod splice;
mod statistics;
#[path = "../support/mod.rs"]
mod support;
mod through;
mod tools;

use std::process::ExitCode;

use support::runner::Suite;

fn main() -> ExitCode {
    let mut suite = Suite::new("filesystem");
    create::add(&mut suite);
    data::add(&mut suite);
    splice::add(&mut suite);
    through::add(&mut suite);
    carried::add(&mut suite);
    metadata::add(&mut suite);
    permission::add(&mut suite);
    directory::add(&mut suite);
    lock::add(&mut suite);
    tools::add(&mut suite);
    bounds::add(&mut suite);
    descriptors::add(&mut suite);
    coherence::add(&mut suite);
    rivals::add(&mut suite);
    end::add(&mut suite);
    statistics::add(&mut suite);
    scheduling::add(&mut suite);
    namespace::add(&mut suite);
    suite.run()
}
