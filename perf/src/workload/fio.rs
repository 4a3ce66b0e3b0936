//! Data workloads: the job files in `perf/jobs`, run by fio.
//!
//! A job file is complete but for two or three variables, so it can be run by hand in the same way:
//! `SIZE=268435456 TIME=2000ms fio perf/jobs/read-seq.fio`. Here it lies beside the data on the target, because in a
//! session nothing else may be visible. Files that a job reads or writes over are laid out once, natively.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use serde::Deserialize;

use super::{Measured, Workload, initial};
use crate::job::{Command, Place, Size, tool};
use crate::result::{Better, Cache, Latency, TargetKind, WorkloadInfo};

const MIB: u64 = 1 << 20;

/// What the figure of a job is.
#[derive(Clone, Copy, PartialEq)]
enum Figure {
    /// MB/s.
    Bytes,
    /// Operations per second.
    Operations,
}

/// How long a job takes.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// As long as it is told.
    Time,
    /// Until it has done all once.
    Work,
}

struct Job {
    name: &'static str,
    about: &'static str,
    text: &'static str,
    figure: Figure,
    cache: Cache,
    end: End,
    clients: u32,
    /// Bytes of one file in the full profile, and at least.
    bytes: (u64, u64),
    durable: bool,
    quick: bool,
    session: bool,
    cntr_2018: Option<(&'static str, f64)>,
}

/// Small files in the full profile: read again and again, or each created once, which a journal may make slow.
const FILES_READ: u64 = 16_384;
const FILES_CREATED: u64 = 4_096;

macro_rules! job {
    ($name:literal, $figure:ident, $cache:ident, $about:literal) => {
        Job {
            name: concat!("fio-", $name),
            about: $about,
            text: include_str!(concat!("../../jobs/", $name, ".fio")),
            figure: Figure::$figure,
            cache: Cache::$cache,
            end: End::Time,
            clients: 1,
            bytes: (256 * MIB, 16 * MIB),
            durable: false,
            quick: false,
            session: false,
            cntr_2018: None,
        }
    };
}

/// All workloads of this file.
pub fn all() -> Vec<Box<dyn Workload>> {
    let jobs = [
        Job {
            quick: true,
            ..job!(
                "read-seq",
                Bytes,
                Warm,
                "sequential read, 1 MiB, from the page cache"
            )
        },
        Job {
            end: End::Work,
            bytes: (1024 * MIB, 64 * MIB),
            ..job!(
                "read-cold",
                Bytes,
                Cold,
                "sequential read, 1 MiB, from the device"
            )
        },
        Job {
            session: true,
            ..job!(
                "write-seq",
                Bytes,
                Warm,
                "sequential write, 1 MiB, over a file"
            )
        },
        Job {
            session: true,
            ..job!(
                "read-random",
                Operations,
                Warm,
                "random read, 4 KiB, from the page cache"
            )
        },
        Job {
            quick: true,
            ..job!(
                "write-random",
                Operations,
                Warm,
                "random write, 4 KiB, over a file"
            )
        },
        job!(
            "mmap-read",
            Operations,
            Warm,
            "random read, 4 KiB, through a mapping"
        ),
        job!(
            "mmap-write",
            Operations,
            Warm,
            "random write, 4 KiB, through a mapping"
        ),
        job!(
            "direct-read-aio",
            Operations,
            Cold,
            "O_DIRECT random read, 4 KiB, depth 16, libaio"
        ),
        job!(
            "direct-read-uring",
            Operations,
            Cold,
            "O_DIRECT random read, 4 KiB, depth 16, io_uring"
        ),
        job!(
            "direct-write",
            Bytes,
            Cold,
            "O_DIRECT sequential write, 64 KiB"
        ),
        Job {
            durable: true,
            quick: true,
            ..job!(
                "write-fsync",
                Operations,
                Warm,
                "random write, 4 KiB, each with fsync"
            )
        },
        job!(
            "append",
            Operations,
            Fresh,
            "appends of 100 bytes to one file"
        ),
        Job {
            clients: 2,
            bytes: (128 * MIB, 16 * MIB),
            cntr_2018: Some(("fio", 0.2)),
            ..job!(
                "file-server",
                Operations,
                Warm,
                "70 % reads, 30 % writes, mixed sizes, 2 jobs of 8 files"
            )
        },
        job!(
            "small-read",
            Operations,
            Warm,
            "open, read and close files of 4 KiB"
        ),
        Job {
            end: End::Work,
            ..job!("small-create", Operations, Fresh, "create empty files")
        },
        Job {
            clients: 8,
            bytes: (32 * MIB, 2 * MIB),
            cntr_2018: Some(("threaded I/O read", 1.1)),
            ..job!(
                "threads-read",
                Bytes,
                Warm,
                "8 threads read a file each, 4 KiB"
            )
        },
        Job {
            clients: 8,
            bytes: (32 * MIB, 2 * MIB),
            cntr_2018: Some(("threaded I/O write", 0.3)),
            ..job!(
                "threads-write",
                Bytes,
                Warm,
                "8 threads write over a file each, 4 KiB"
            )
        },
        Job {
            cntr_2018: Some(("AIO-stress", 2.6)),
            ..job!(
                "aio-stress",
                Bytes,
                Cold,
                "O_DIRECT random write, 64 KiB, depth 8, libaio"
            )
        },
        Job {
            cntr_2018: Some(("iozone read", 2.1)),
            ..job!(
                "iozone-read",
                Bytes,
                Warm,
                "sequential read, 4 KiB, from the page cache"
            )
        },
        Job {
            end: End::Work,
            bytes: (256 * MIB, 64 * MIB),
            cntr_2018: Some(("iozone write", 1.2)),
            ..job!(
                "iozone-write",
                Bytes,
                Fresh,
                "sequential write, 4 KiB, of a new file"
            )
        },
    ];
    jobs.into_iter()
        .map(|job| Box::new(job) as Box<dyn Workload>)
        .collect()
}

impl Job {
    fn command(&self, place: &Place) -> Command {
        let size = &place.size;
        let files = match self.end {
            End::Time => FILES_READ,
            End::Work => FILES_CREATED,
        };
        place
            .command("fio")
            .directory(place.dir.join("data"))
            .env("SIZE", size.count(self.bytes.0, self.bytes.1).to_string())
            .env("FILES", size.count(files, 64).to_string())
            .env("TIME", format!("{:.0}ms", size.seconds * 1000.0))
            .arg("--output-format=json+")
    }

    fn path(&self) -> String {
        format!("{}.fio", self.name)
    }
}

impl Workload for Job {
    fn info(&self) -> WorkloadInfo {
        WorkloadInfo {
            name: self.name.into(),
            group: "data".into(),
            about: self.about.into(),
            unit: match self.figure {
                Figure::Bytes => "MB/s",
                Figure::Operations => "ops/s",
            }
            .into(),
            better: Better::Higher,
            cache: self.cache,
            durable: self.durable,
            baseline: "native".into(),
            clients: self.clients,
            axis: None,
            cntr_2018: self.cntr_2018.map(|(row, value)| (row.into(), value)),
        }
    }

    fn quick(&self) -> bool {
        self.quick
    }

    fn applies(&self, kind: TargetKind) -> bool {
        self.session || kind != TargetKind::Session
    }

    fn missing(&self) -> Option<String> {
        let refused = fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
            .is_ok_and(|text| text.trim() == "2");
        if self.text.contains("ioengine=io_uring") && refused {
            return Some("io_uring is disabled: kernel.io_uring_disabled is 2".into());
        }
        tool::missing(&["fio", "sh", "cat"])
    }

    fn expected(&self, size: &Size) -> Duration {
        // fio itself needs 0.3 s; warming reads all once.
        let work = match self.end {
            End::Time => size.seconds,
            End::Work => 4.0 * size.scale,
        };
        Duration::from_secs_f64(work + 1.0)
    }

    fn prepare(&self, native: &Place) -> Result<()> {
        let data = native.dir.join("data");
        let job = native.dir.join(self.path());
        fs::write(&job, self.text).with_context(|| format!("cannot write {}", job.display()))?;
        if self.cache == Cache::Fresh {
            initial::empty(&data)?;
        } else {
            let recipe = format!("{}{}", self.text, native.size.scale);
            initial::once(&native.dir, "data", &recipe, || {
                initial::empty(&data)?;
                self.command(native)
                    .arg("--create_only=1")
                    .arg(&job)
                    .run()?;
                Ok(())
            })?;
        }
        initial::settle(&native.dir)
    }

    fn measure(&self, place: &Place) -> Result<Measured> {
        let command = self.command(place).arg(place.dir.join(self.path()));
        let window = place.begin();
        let (status, finished) = command.spawn()?.wait_any()?;
        let usage = window.end();
        let outcome = Outcome::parse(&finished.stdout)
            .with_context(|| format!("fio ({status}): {}", finished.stderr.trim()))?;
        ensure!(
            status.success(),
            "fio failed ({status}): {}",
            finished.stderr.trim()
        );
        let directions = [("read", &outcome.read), ("write", &outcome.write)];
        let total = |of: fn(&Direction) -> f64| of(&outcome.read) + of(&outcome.write);
        let (bytes, rate) = (
            total(|direction| direction.bw_bytes / 1e6),
            total(|direction| direction.iops),
        );
        // With fsync after each write, the write itself is not what takes the time.
        let histogram = if self.durable {
            histogram([&outcome.sync.lat_ns])?
        } else {
            histogram(directions.map(|(_, direction)| &direction.clat_ns))?
        };
        let mut extra = BTreeMap::new();
        if directions.iter().all(|(_, direction)| direction.iops > 0.0) {
            for (name, direction) in directions {
                extra.insert(format!("{name}_ops_per_second"), direction.iops);
                extra.insert(format!("{name}_mb_per_second"), direction.bw_bytes / 1e6);
            }
        }
        let value = match self.figure {
            Figure::Bytes => bytes,
            Figure::Operations => rate,
        };
        ensure!(
            value > 0.0,
            "fio did nothing in {:.1} s: {}",
            usage.seconds,
            finished.stderr.trim()
        );
        Ok(Measured {
            value,
            operations: Some(histogram.len() as f64),
            usage,
            latency: Latency::of(&histogram),
            extra,
        })
    }

    /// Reads every file from start to end.
    fn warm(&self, place: &Place) -> Result<()> {
        place
            .command("sh")
            .directory(place.dir.join("data"))
            .args(["-c", "cat -- * > /dev/null"])
            .run()?;
        Ok(())
    }
}

/// Of fio's report, what is used.
#[derive(Deserialize)]
struct Outcome {
    error: i32,
    read: Direction,
    write: Direction,
    #[serde(default)]
    sync: Sync,
}

#[derive(Deserialize)]
struct Direction {
    bw_bytes: f64,
    iops: f64,
    clat_ns: Bins,
}

#[derive(Default, Deserialize)]
struct Sync {
    #[serde(default)]
    lat_ns: Bins,
}

/// Latency in nanoseconds, and how many operations took that.
#[derive(Default, Deserialize)]
struct Bins {
    #[serde(default)]
    bins: BTreeMap<String, u64>,
}

impl Outcome {
    /// Of what fio prints: remarks, then JSON. All job files report one group.
    fn parse(text: &str) -> Result<Outcome> {
        #[derive(Deserialize)]
        struct Report {
            jobs: Vec<Outcome>,
        }
        let start = if text.starts_with('{') {
            0
        } else {
            text.find("\n{").context("it has no JSON")? + 1
        };
        let report: Report = serde_json::from_str(&text[start..])?;
        match <[Outcome; 1]>::try_from(report.jobs) {
            Ok([outcome]) if outcome.error == 0 => Ok(outcome),
            Ok([outcome]) => Err(std::io::Error::from_raw_os_error(outcome.error).into()),
            Err(jobs) => bail!("{} groups where one was expected", jobs.len()),
        }
    }
}

fn histogram<'a>(of: impl IntoIterator<Item = &'a Bins>) -> Result<Histogram<u64>> {
    let mut histogram = Histogram::new(3)?;
    for (value, count) in of.into_iter().flat_map(|bins| &bins.bins) {
        histogram.record_n(value.parse()?, *count)?;
    }
    Ok(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let bins = r#"{"min": 1, "bins": {"1000": 98, "500000": 2}}"#;
        let none = r#"{"bw_bytes": 0, "iops": 0.0, "clat_ns": {"min": 0}}"#;
        let text = format!(
            "note: something\n{{\"jobs\": [{{\"error\": 0, \"read\": {none},
              \"write\": {{\"bw_bytes\": 4096000, \"iops\": 1000.5, \"clat_ns\": {bins}}}, \"job_runtime\": 3}}]}}"
        );
        let outcome = Outcome::parse(&text).unwrap();
        assert_eq!(outcome.write.iops, 1000.5);
        let histogram = histogram([&outcome.read.clat_ns, &outcome.write.clat_ns]).unwrap();
        assert_eq!(histogram.len(), 100);
        assert!(histogram.value_at_quantile(0.5) <= 1001);
        assert!(histogram.max() >= 500_000);
        assert!(Outcome::parse("fio: bad option").is_err());
        let failed = text.replace("\"error\": 0", "\"error\": 28");
        let error = Outcome::parse(&failed).err().unwrap().to_string();
        assert!(error.contains("No space left"), "{error}");
    }

    #[test]
    fn names_are_those_of_the_job_files() {
        for workload in all() {
            let name = workload.info().name;
            let section = name.strip_prefix("fio-").unwrap();
            let path = format!("{}/jobs/{section}.fio", env!("CARGO_MANIFEST_DIR"));
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(&format!("\n[{section}]\n")), "{path}");
        }
        let files = fs::read_dir(format!("{}/jobs", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert_eq!(
            files.count(),
            all().len(),
            "every job file belongs to a workload"
        );
    }
}
