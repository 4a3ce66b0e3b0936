use hdrhistogram::Histogram;

use super::*;
use crate::engine::NotificationStatistics;
use crate::engine::metrics::{
    CacheStatistics, Measured, OperationStatistics, QueueStatistics, latency,
};
use crate::fs::Statistics;

/// What a server told before there were queues.
const OLD: &str = r#"{
    "version": "3.0.0-alpha.1", "pid": 7, "connection": 53,
    "served": {"kind": "mount", "source": "/a", "target": "/b", "container": null},
    "transport": "classic", "protocol": "7.45", "capabilities": ["ASYNC_READ"], "max_write": 1048576,
    "uptime_ns": 2000000000, "threads": 2, "resident_kib": 9000,
    "file_system": {"inodes": 5, "descriptors": 4, "handles": 1},
    "operations": [{
        "operation": "LOOKUP", "requests": 10, "errors": 1, "bytes": 0,
        "mean_ns": 9000, "p50_ns": 8000, "p99_ns": 20000, "p999_ns": 30000, "max_ns": 40000
    }]
}"#;

fn operation(name: &str, latencies: &[u64], bytes: u64) -> OperationStatistics {
    let mut histogram = latency::empty();
    for nanoseconds in latencies {
        histogram.record(*nanoseconds).unwrap();
    }
    OperationStatistics {
        operation: name.to_owned(),
        measured: measured(&histogram, bytes),
        histogram: latency::encode(&histogram),
    }
}

fn measured(latency: &Histogram<u64>, bytes: u64) -> Measured {
    let mut measured = Measured {
        requests: latency.len(),
        bytes,
        ..Measured::default()
    };
    measured.set_latency(latency);
    measured
}

/// A queue that has served `operations`.
fn queue(name: &str, operations: Vec<OperationStatistics>) -> QueueStatistics {
    let mut all = latency::empty();
    let mut bytes = 0;
    for operation in &operations {
        all.add(operation.latency().unwrap()).unwrap();
        bytes += operation.measured.bytes;
    }
    QueueStatistics {
        name: name.to_owned(),
        measured: measured(&all, bytes),
        operations,
        ..QueueStatistics::default()
    }
}

fn report(
    seconds: u64,
    operations: Vec<OperationStatistics>,
    queues: Vec<QueueStatistics>,
) -> Report {
    Report {
        uptime_ns: seconds * 1_000_000_000,
        operations,
        queues,
        ..serde_json::from_str(OLD).unwrap()
    }
}

fn of<'a>(name: &str, operations: &'a [OperationStatistics]) -> &'a Measured {
    let mut operations = operations.iter();
    &operations
        .find(|one| one.operation == name)
        .unwrap()
        .measured
}

#[test]
fn socket_names_are_read_back() {
    assert_eq!(parse_socket_name(&socket_name(53, 1234)), Some((53, 1234)));
    assert_eq!(parse_socket_name("cntr.stat.53"), None);
    assert_eq!(parse_socket_name("cntr.stat.x.1"), None);
}

#[test]
fn an_old_report_is_understood() {
    let report: Report = serde_json::from_str(OLD).unwrap();
    assert_eq!(of("LOOKUP", &report.operations).p99_ns, 20_000);
    assert_eq!(report.file_system.inodes, 5);
    assert_eq!((report.queues.len(), report.cache), (0, None));
    assert_eq!((report.usage, report.interval_ns), (None, None));
    // Latencies of an interval cannot be known then, and are not made up.
    let mut now = report.clone();
    now.uptime_ns += 1_000_000_000;
    now.operations[0].measured.requests += 5;
    let interval = now.since(&report);
    let lookup = of("LOOKUP", &interval.operations);
    assert_eq!((lookup.requests, lookup.p50_ns, lookup.max_ns), (5, 0, 0));
    assert!((lookup.requests_per_second - 5.0).abs() < 1e-9);
}

#[test]
fn a_report_is_read_back() {
    let operations = vec![operation("READ", &[1000, 2000], 8192)];
    let mut report = report(3, operations.clone(), vec![queue("cpu 0", operations)]);
    report.usage = Some(Usage {
        user_ns: 1,
        ..Usage::default()
    });
    report.cache = Some(CacheStatistics {
        forgotten: 9,
        ..CacheStatistics::default()
    });
    report.notifications = Some(NotificationStatistics::default());
    report.file_system = Statistics {
        inodes: 3,
        ..Statistics::default()
    };
    let text = serde_json::to_string(&report).unwrap();
    let back: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(back.operations, report.operations);
    assert_eq!(back.queues, report.queues);
    assert_eq!(back.cache, report.cache);
    assert_eq!(back.usage, report.usage);
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
    // The fields that were there before the queues are where they were.
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["operations"][0]["requests"], 2);
    assert_eq!(value["queues"][0]["operations"][0]["bytes"], 8192);
}

#[test]
fn an_interval_has_percentiles_of_its_own() {
    // A hundred fast requests, then ten slow ones, on one of two queues.
    let fast = vec![1000; 100];
    let slow = [fast.clone(), vec![1_000_000; 10]].concat();
    let idle = || queue("cpu 0", vec![operation("READ", &[5000], 1)]);
    let all_fast = [fast.clone(), vec![5000]].concat();
    let all_slow = [slow.clone(), vec![5000]].concat();
    let before = report(
        10,
        vec![
            operation("READ", &all_fast, 101),
            operation("OPEN", &[7], 0),
        ],
        vec![idle(), queue("cpu 1", vec![operation("READ", &fast, 100)])],
    );
    let now = report(
        12,
        vec![
            operation("READ", &all_slow, 4201),
            operation("OPEN", &[7], 0),
        ],
        vec![idle(), queue("cpu 1", vec![operation("READ", &slow, 4200)])],
    );
    assert!(of("READ", &now.operations).p50_ns < 1100);
    let interval = now.since(&before);
    assert_eq!(interval.interval_ns, Some(2_000_000_000));
    // What was not asked for is left out.
    assert_eq!(interval.operations.len(), 1);
    let read = of("READ", &interval.operations);
    assert_eq!((read.requests, read.bytes), (10, 4100));
    assert!((990_000..=1_010_000).contains(&read.p50_ns), "{read:?}");
    assert!((990_000..=1_010_000).contains(&read.max_ns), "{read:?}");
    assert!((read.requests_per_second - 5.0).abs() < 1e-9);
    assert!((read.bytes_per_second - 2050.0).abs() < 1e-9);
    let queues: Vec<_> = interval
        .queues
        .iter()
        .map(|queue| (queue.name.as_str(), queue.measured.requests))
        .collect();
    assert_eq!(queues, [("cpu 0", 0), ("cpu 1", 10)]);
    assert_eq!(interval.queues[1].measured, *read);
    assert_eq!(of("READ", &interval.queues[1].operations), read);
    assert_eq!(interval.queues[0].measured.max_ns, 0);
    assert_eq!(interval.total().requests, 10);
}
