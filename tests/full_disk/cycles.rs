//! Cycles of filling and freeing, on one data directory.

use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::seed::Seed;
use super::streams::{DROPPING, KEEPING, Stream};
use crate::common::gateway::{Gateway, Setup};
use crate::common::http::{self, Answer};
use crate::common::image::Image;

const DISK: u64 = 64 << 20;
const MIN_FREE: u64 = 8 << 20;
/// Of the issue: so soon after space is there again.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// Who takes the room.
#[derive(Clone, Copy, Debug)]
enum Filling {
    /// Others, to the last byte: the kernel refuses.
    OthersAll,
    /// Others, into the reserve: we refuse or evict before the kernel does.
    OthersReserve,
    /// Our own records, which nobody reads.
    Ourselves,
}

pub struct Cycles {
    chance: Seed,
    gateway: Option<Gateway>,
    keeping: Stream,
    dropping: Stream,
    report: Report,
    // Unmounted after the gateway has ended.
    _image: Image,
}

#[derive(Default)]
pub struct Report {
    cycles: [u64; 3],
    restarts: u64,
    acknowledged: u64,
    refused: u64,
    evicted: u64,
    longest_back: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cycles: [all, reserve, own], restarts, acknowledged, .. } = self;
        let Self { refused, evicted, longest_back, .. } = self;
        write!(
            f,
            "full disks: {all} to the last byte and {reserve} into the reserve by others, {own} by \
             ourselves; {restarts} kill -9 on them; {acknowledged} acknowledged, 0 lost, {refused} \
             refused with 503, {evicted} evicted where that was configured; the intake was back \
             within {longest_back:.2?}"
        )
    }
}

impl Cycles {
    /// An error says why there can be no small disk.
    pub async fn new(seed: u64) -> Result<Self, String> {
        let setup = Setup::new()
            .set("STORE__MIN_FREE", &MIN_FREE.to_string())
            .set("STORE__SEGMENT_BYTES", "1MiB")
            .set("STORE__MAX_BYTES", "8GiB")
            .set("STREAM__0__NAME", KEEPING)
            .set("STREAM__0__WHEN_FULL", "reject")
            .set("STREAM__1__NAME", DROPPING);
        let image = Image::make(&setup.folder().join("image"), DISK, &setup.data_dir())?;
        let gateway = setup.start().await;
        let contents = Seed::new(seed);
        let mut cycles = Self {
            chance: contents.of(1),
            gateway: Some(gateway),
            keeping: Stream::new(KEEPING, contents.of(2)),
            dropping: Stream::new(DROPPING, contents.of(3)),
            report: Report::default(),
            _image: image,
        };
        let gateway = cycles.gateway.as_ref().unwrap();
        cycles.keeping.acknowledge(gateway).await;
        cycles.dropping.acknowledge(gateway).await;
        Ok(cycles)
    }

    fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    fn stuffing(&self) -> PathBuf {
        self.gateway().setup().data_dir().join("stuffing")
    }

    pub async fn cycle(&mut self, cycle: u64) {
        let filling = match cycle % 3 {
            0 => Filling::OthersAll,
            1 => Filling::OthersReserve,
            _ => Filling::Ourselves,
        };
        self.report.cycles[usize::try_from(cycle % 3).unwrap()] += 1;
        for _ in 0..self.chance.below(20) {
            self.post_keeping().await;
            self.post_dropping().await;
        }
        self.fill(filling).await;
        // A few still find room that was made before.
        let mut taken = 0;
        while self.post_keeping().await.status == 204 {
            taken += 1;
            assert!(taken < 2000, "{filling:?}: the disk is not full\n{}", self.log());
        }
        self.post_dropping().await;
        if self.chance.one_in(4) {
            self.report.restarts += 1;
            let setup = self.gateway.take().unwrap().kill().await;
            self.gateway = Some(setup.start().await);
            self.post_dropping().await;
        }
        // Spark goes on, and its positions move.
        let gateway = self.gateway.as_ref().unwrap();
        self.keeping.audit(gateway).await;
        self.dropping.audit(gateway).await;
        self.keeping.acknowledge(gateway).await;
        if self.chance.one_in(2) {
            self.dropping.acknowledge(gateway).await;
        }
        let freed = Instant::now();
        let _ = fs::remove_file(self.stuffing());
        while self.post_keeping().await.status != 204 {
            let waited = freed.elapsed();
            assert!(
                waited < BACK_WITHIN,
                "refused {waited:?} after space came back\n{}",
                self.log()
            );
        }
        self.report.longest_back = self.report.longest_back.max(freed.elapsed());
        assert!(freed.elapsed() < BACK_WITHIN, "{:?}", freed.elapsed());
    }

    async fn fill(&mut self, filling: Filling) {
        match filling {
            Filling::OthersAll => stuff(&self.stuffing(), 0),
            Filling::OthersReserve => stuff(&self.stuffing(), MIN_FREE / 2),
            Filling::Ourselves => {
                for _ in 0..DISK / 20_000 {
                    if self.post_keeping().await.status == 503 {
                        return;
                    }
                }
                panic!("the disk does not become full\n{}", self.log());
            }
        }
    }

    fn log(&self) -> String {
        self.gateway().log()
    }

    async fn post_dropping(&mut self) {
        let answer = self.dropping.post(self.gateway.as_ref().unwrap()).await;
        self.count(&answer);
    }

    async fn post_keeping(&mut self) -> Answer {
        let answer = self.keeping.post(self.gateway.as_ref().unwrap()).await;
        self.count(&answer);
        answer
    }

    fn count(&mut self, answer: &Answer) {
        match answer.status {
            204 => self.report.acknowledged += 1,
            503 => {
                assert!(answer.header("retry-after").is_some(), "{answer:?}");
                self.report.refused += 1;
            }
            _ => panic!("{answer:?}\n{}", self.log()),
        }
    }

    pub async fn end(mut self) -> Report {
        // What the disk refused last may have been its last.
        self.post_dropping().await;
        let gateway = self.gateway.take().unwrap();
        self.keeping.audit(&gateway).await;
        self.dropping.audit(&gateway).await;
        let status = gateway.status().await;
        for stream in status["streams"].as_array().unwrap() {
            assert_eq!(stream["lost"], 0, "{stream}");
            let evicted = stream["evicted"]["records"].as_u64().unwrap();
            assert!(evicted == 0 || stream["name"] == DROPPING, "{stream}");
            self.report.evicted += evicted;
        }
        let ready = http::request("GET", "/ready", &[], b"");
        assert_eq!(http::once(gateway.admin, &ready).await.status, 200);
        let (setup, ended) = gateway.stop().await;
        assert!(ended.success(), "{ended:?}\n{}", setup.log());
        assert!(!setup.data_dir().join("quarantine").exists(), "{}", setup.log());
        assert!(!setup.log().contains("panicked"), "{}", setup.log());
        self.report
    }
}

/// Takes all of the disk but `left` bytes.
fn stuff(path: &PathBuf, left: u64) {
    let free = || {
        let disk = rustix::fs::statvfs(path.parent().unwrap()).unwrap();
        disk.f_bavail * disk.f_frsize
    };
    let mut file = File::create(path).unwrap();
    for len in [1 << 20, 64 << 10, 4096, 1] {
        let block = vec![0x5a; len];
        while free() >= left + len as u64 && file.write_all(&block).is_ok() {}
    }
    let _ = file.sync_all();
}
