//! SQLite by its command line program: the time of the whole process counts.
//!
//! Durability is SQLite's strictest for a rollback journal: `journal_mode=DELETE`, `synchronous=FULL`.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Measured, Workload, initial, timed};
use crate::job::{Command, Place, Size, tool};
use crate::result::{Better, Cache, WorkloadInfo};

const PRAGMAS: &str = "PRAGMA journal_mode=DELETE;\nPRAGMA synchronous=FULL;\n";
const TABLE: &str = "CREATE TABLE item(id INTEGER PRIMARY KEY, key INTEGER, text TEXT);\nCREATE INDEX item_key ON item(key);\n";

/// Rows of the table that is selected from.
const ROWS: u64 = 100_000;

#[derive(Clone, Copy, PartialEq)]
enum Sqlite {
    /// A transaction for every row.
    Insert,
    /// A transaction for 1000 rows.
    Batch,
    /// One row by its indexed column.
    Select,
}

/// All workloads of this file.
pub fn all() -> Vec<Box<dyn Workload>> {
    vec![
        Box::new(Sqlite::Insert),
        Box::new(Sqlite::Batch),
        Box::new(Sqlite::Select),
    ]
}

impl Sqlite {
    fn count(self, size: &Size) -> u64 {
        match self {
            Sqlite::Insert => size.count(500, 20),
            Sqlite::Batch => size.count(60_000, 2000),
            Sqlite::Select => size.count(50_000, 1000),
        }
    }

    /// The statements that are measured.
    fn script(self, size: &Size) -> String {
        let mut random = fastrand::Rng::with_seed(1);
        let count = self.count(size);
        let rows = size.count(ROWS, 1000);
        let mut script = String::from(PRAGMAS);
        for number in 0..count {
            let key = random.u64(0..rows);
            let _ = match self {
                Sqlite::Insert => writeln!(script, "{}", insert(key)),
                Sqlite::Batch => {
                    let begin = if number % 1000 == 0 { "BEGIN;\n" } else { "" };
                    let last = number % 1000 == 999 || number + 1 == count;
                    let end = if last { "\nCOMMIT;" } else { "" };
                    writeln!(script, "{begin}{}{end}", insert(key))
                }
                Sqlite::Select => {
                    writeln!(script, "SELECT length(text) FROM item WHERE key={key};")
                }
            };
        }
        script
    }
}

fn insert(key: u64) -> String {
    format!("INSERT INTO item(key,text) VALUES({key},'entry {key} of the table of items');")
}

fn command(place: &Place) -> Command {
    place.command("sqlite3").args(["-batch", "-bail"])
}

impl Workload for Sqlite {
    fn info(&self) -> WorkloadInfo {
        let (name, about, unit) = match self {
            Sqlite::Insert => ("insert", "a durable transaction for every row", "tx/s"),
            Sqlite::Batch => ("batch", "durable transactions of 1000 rows each", "rows/s"),
            Sqlite::Select => ("select", "one row by an index", "rows/s"),
        };
        WorkloadInfo {
            name: format!("sqlite-{name}"),
            group: "databases".into(),
            about: about.into(),
            unit: unit.into(),
            better: Better::Higher,
            cache: match self {
                Sqlite::Select => Cache::Warm,
                _ => Cache::Fresh,
            },
            durable: *self != Sqlite::Select,
            baseline: "native".into(),
            clients: 1,
            axis: None,
            cntr_2018: (*self == Sqlite::Insert).then(|| ("SQLite".into(), 1.9)),
        }
    }

    fn quick(&self) -> bool {
        *self == Sqlite::Insert
    }

    fn missing(&self) -> Option<String> {
        tool::missing(&["sqlite3"])
    }

    fn expected(&self, size: &Size) -> Duration {
        Duration::from_secs_f64(0.5 + 2.5 * size.scale)
    }

    fn prepare(&self, native: &Place) -> Result<()> {
        let path = |name| native.dir.join(name);
        let recipe = format!("{}", native.size.scale);
        initial::once(&native.dir, "script", &recipe, || {
            fs::write(path("script.sql"), self.script(&native.size))
                .context("cannot write the script")
        })?;
        let make = || {
            initial::remove(&path("db"))?;
            initial::remove(&path("db-journal"))?;
            let mut script = format!("{PRAGMAS}{TABLE}");
            if *self == Sqlite::Select {
                let rows = native.size.count(ROWS, 1000);
                let _ = write!(
                    script,
                    "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i+1<{rows}) \
                     INSERT INTO item(key,text) SELECT i,'entry '||i||' of the table of items' FROM n;"
                );
            }
            command(native).args(["db", &script]).run()?;
            Ok(())
        };
        if *self == Sqlite::Select {
            initial::once(&native.dir, "db", &recipe, make)?;
        } else {
            make()?;
        }
        initial::settle(&native.dir)
    }

    fn measure(&self, place: &Place) -> Result<Measured> {
        let count = self.count(&place.size);
        let command = command(place).args(["db", ".read script.sql"]);
        let (measured, finished) = timed::rate(place, command, count)?;
        // The first line is the journal mode.
        let rows = finished.stdout.lines().count() as u64 - 1;
        let expected = if *self == Sqlite::Select { count } else { 0 };
        ensure!(
            rows == expected,
            "sqlite3 found {rows} rows where there are {expected}: {}",
            finished.stderr
        );
        Ok(measured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_have_the_statements_that_are_counted() {
        let size = Size {
            scale: 0.04,
            seconds: 1.0,
        };
        let count = |script: &str, word: &str| script.matches(word).count() as u64;
        let insert = Sqlite::Insert.script(&size);
        assert_eq!(count(&insert, "INSERT"), Sqlite::Insert.count(&size));
        assert_eq!(count(&insert, "BEGIN"), 0);
        let batch = Sqlite::Batch.script(&size);
        assert_eq!(count(&batch, "INSERT"), 2400);
        assert_eq!((count(&batch, "BEGIN;"), count(&batch, "COMMIT;")), (3, 3));
        assert!(batch.trim_end().ends_with("COMMIT;"));
        let select = Sqlite::Select.script(&size);
        assert_eq!(count(&select, "SELECT"), Sqlite::Select.count(&size));
    }
}
