//! The power goes on a real file system: the gateway is frozen, and goes on
//! with what the disk held at that moment.
//!
//! The disk of this form has no cache of its own: what the kernel gave to it
//! is there, flushed or not. The volatile file system is the stricter one in
//! that; this one has a real journal, and real inodes with times of birth.

use std::fmt;
use std::time::Duration;

use super::oracle::campaign::Mishap;
use super::oracle::life::Life;
use super::oracle::seed::Seed;
use crate::common::freeze::freeze;
use crate::common::gateway::{Gateway, Setup};
use crate::common::image::{FileSystem, Image, Snapshot};

/// A start takes about as long, unloaded.
const A_START: u64 = 40;

pub struct Frozen {
    image: Option<Image>,
    setup: Option<Setup>,
    pub table: Table,
}

/// How often the power went, and when.
pub struct Table {
    kind: FileSystem,
    pub cuts: u64,
    starting: u64,
    ending: u64,
}

impl Frozen {
    /// # Errors
    /// Why there can be none here.
    pub fn new(kind: FileSystem) -> Result<Self, String> {
        let setup = Setup::new();
        let file = setup.folder().join("disk");
        let image = Image::make_as(kind, &file, kind.small(), &setup.data_dir())?;
        let table = Table { kind, cuts: 0, starting: 0, ending: 0 };
        Ok(Self { image: Some(image), setup: Some(setup), table })
    }

    /// What the disk holds once that process stands still. All that it
    /// answered until then is a promise, whether it was read already or not.
    fn freeze(&self, pid: u32) -> Snapshot {
        freeze(pid).unwrap();
        self.image.as_ref().unwrap().snapshot().unwrap()
    }

    /// After the process is gone.
    fn cut(&mut self, snapshot: Snapshot) {
        let image = self.image.take().unwrap();
        self.image = Some(image.lose_power(snapshot).unwrap());
        self.table.cuts += 1;
    }
}

impl Mishap for Frozen {
    fn setup(&mut self) -> Setup {
        let setup = self.setup.take().expect("the campaign begins once");
        setup.set("STORE__SEGMENT_BYTES", "1MiB").set("STORE__MIN_FREE", "16MiB")
    }

    async fn start(&mut self, setup: Setup, chance: &mut Seed) -> Result<Gateway, Setup> {
        let command = setup.command(["run"]);
        if self.table.cuts == 0 || !chance.one_in(4) {
            return Ok(setup.start_as(command).await);
        }
        // Any moment of a start will do.
        let moment = tokio::time::sleep(Duration::from_millis(chance.below(A_START)));
        let starting = match setup.start_unless(command, moment).await {
            Ok(gateway) => return Ok(gateway),
            Err(starting) => starting,
        };
        let snapshot = self.freeze(starting.pid());
        let left = starting.kill_and(|| {}).await;
        self.cut(snapshot);
        self.table.starting += 1;
        Err(left)
    }

    async fn disturb(&mut self, _: &Life, _: &mut Seed) {}

    async fn strike(&mut self, gateway: Gateway, life: &Life, chance: &mut Seed) -> Setup {
        // Few make it likely that the cut falls into a start, many that it
        // falls into a rotation.
        let longest = [5, 300, 1500][usize::try_from(chance.below(3)).unwrap()];
        life.reaches(1 + chance.below(longest)).await;
        if chance.one_in(8) {
            // In the middle of an orderly end.
            life.stopping();
            gateway.signal("TERM");
            self.table.ending += 1;
        }
        let snapshot = self.freeze(gateway.pid());
        let left = gateway.kill().await;
        self.cut(snapshot);
        left
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, cuts, starting, ending } = self;
        write!(
            f,
            "{kind}: {cuts} cuts, {starting} of them in a start, {ending} in an orderly end; "
        )
    }
}
