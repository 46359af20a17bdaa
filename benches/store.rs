//! The codecs, and a log on a real disk: appending groups and reading a
//! backlog. `cargo bench --bench store`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::SystemTime;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ngsi_ferry::record::{Line, Record};
use ngsi_ferry::store::{Config, Log, Metrics, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const HEADERS: [(&str, &[u8]); 6] = [
    ("content-type", b"application/json; charset=utf-8"),
    ("user-agent", b"orion/4.1.0 libcurl/7.88.1"),
    ("fiware-service", b"plant1"),
    ("fiware-servicepath", b"/hall2/line4"),
    ("fiware-correlator", b"2f9c3c1e-a4f1-11ef-9c2e-0242ac120004; cbnotif=1"),
    ("ngsiv2-attrsformat", b"normalized"),
];

/// An NGSIv2 notification of about 600 bytes, as a press sends one a second.
fn body(n: u64) -> String {
    let value = |k: u64| (n * 7919 + k * 104_729) % 100_000;
    format!(
        concat!(
            r#"{{"subscriptionId":"673f5d0c9a1b2c3d4e5f6071","data":[{{"id":"urn:ngsi-ld:Press:{:03}","type":"Press","#,
            r#""pressure":{{"type":"Number","value":{}.{:03},"metadata":{{"unitCode":{{"type":"Text","value":"BAR"}},"#,
            r#""timestamp":{{"type":"DateTime","value":"2026-11-22T10:{:02}:{:02}.{:03}Z"}}}}}},"#,
            r#""temperature":{{"type":"Number","value":{}.{:02},"metadata":{{"unitCode":{{"type":"Text","value":"CEL"}}}}}},"#,
            r#""strokes":{{"type":"Integer","value":{},"metadata":{{}}}},"#,
            r#""state":{{"type":"Text","value":"{}","metadata":{{}}}},"#,
            r#""mould":{{"type":"Relationship","value":"urn:ngsi-ld:Mould:{:05}","metadata":{{}}}}}}]}}"#,
        ),
        n % 40,
        100 + value(1) % 150,
        value(2) % 1000,
        n / 60 % 60,
        n % 60,
        value(3) % 1000,
        40 + value(4) % 50,
        value(5) % 100,
        1_000_000 + n,
        ["running", "idle", "setup"][usize::try_from(n % 3).unwrap_or(0)],
        value(6),
    )
}

fn line(n: u64) -> Line {
    let body = body(n);
    Line::encode(SystemTime::now(), "POST", "/notify/press", &HEADERS, body.as_bytes())
}

fn lines(count: u64) -> Vec<Line> {
    (0..count).map(line).collect()
}

struct Open {
    runtime: Runtime,
    log: Arc<Log>,
    _store: Store,
    _folder: TempDir,
}

fn open() -> Open {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let guard = runtime.enter();
    let config = Config { max_bytes: 256 << 20, min_free: 0, ..Config::default() };
    let store = Store::open(folder.path(), config, Vec::new(), Metrics::default()).unwrap();
    drop(guard);
    let log = store.stream("default").unwrap();
    Open { runtime, log, _store: store, _folder: folder }
}

fn codecs(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    let body = body(1234);
    let received = SystemTime::now();
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("Line::encode", |b| {
        let encode = |body| Line::encode(received, "POST", "/notify/press", &HEADERS, body);
        b.iter(|| encode(black_box(body.as_bytes())));
    });
    let mut written = Vec::new();
    line(1234).write_numbered(1234, &mut written);
    group.bench_function("Record::decode", |b| {
        b.iter(|| Record::decode(black_box(&written)).unwrap());
    });
    let open = open();
    let stored = open.runtime.block_on(async {
        open.log.append(lines(512)).await.unwrap();
        open.log.read(0..512, usize::MAX).await.unwrap().groups.remove(0)
    });
    let lines_len = u64::from(stored.header.lines_len);
    println!("512 lines: {lines_len} bytes, {} packed", stored.frame.len());
    group.throughput(Throughput::Bytes(lines_len));
    group.bench_function("Group::lines of 512", |b| b.iter(|| stored.lines().unwrap()));
    group.bench_function("Group::cut of 512 to 256", |b| {
        b.iter_batched(|| stored.clone(), |group| group.cut(&(100..356)), BatchSize::SmallInput);
    });
    group.finish();
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    for count in [1, 64, 512] {
        let open = open();
        group.throughput(Throughput::Elements(count));
        group.bench_with_input(BenchmarkId::from_parameter(count), &lines(count), |b, lines| {
            b.iter_batched(
                || lines.clone(),
                |lines| open.runtime.block_on(open.log.append(lines)).unwrap(),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn read(c: &mut Criterion) {
    const RECORDS: u64 = 51_200;
    let open = open();
    let lines = lines(512);
    open.runtime.block_on(async {
        while open.log.bounds().next < RECORDS {
            open.log.append(lines.clone()).await.unwrap();
        }
    });
    let status = open.log.status();
    println!("backlog of {} records: {} bytes on the disk", status.records, status.bytes);
    let mut group = c.benchmark_group("read");
    group.sample_size(20);
    group.throughput(Throughput::Elements(RECORDS));
    group.bench_function("a backlog in batches of 1 MiB", |b| {
        b.iter(|| {
            open.runtime.block_on(async {
                let mut at = 0;
                while at < RECORDS {
                    at = open.log.read(at..RECORDS, 1 << 20).await.unwrap().next;
                }
            });
        });
    });
    group.finish();
}

criterion_group!(benches, codecs, append, read);
criterion_main!(benches);
