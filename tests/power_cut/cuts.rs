//! The power goes while the gateway works, or its disk fails for a while.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use rustix::io::Errno;

use super::content::Cut;
use super::machine::{Aim, Fault};
use super::oracle::campaign::Mishap;
use super::oracle::life::Life;
use super::oracle::seed::Seed;
use super::oracle::senders::STREAMS;
use super::place::Place;
use super::volume::Volume;
use crate::common::gateway::{DEADLINE, Gateway, Setup};

const CAPACITY: u64 = 4 << 30;
/// As many changes as a start makes, and some more.
const OF_A_START: u64 = 150;

pub struct Cuts {
    volume: Volume,
    setup: Option<Setup>,
    pub table: Table,
}

/// How often the power went, where, and how.
#[derive(Default)]
pub struct Table {
    places: BTreeMap<Place, [u64; 3]>,
    pub cuts: u64,
    faults: BTreeMap<&'static str, u64>,
}

impl Cuts {
    /// # Errors
    /// Why there can be none here.
    pub fn new(seed: u64) -> Result<Self, String> {
        let setup = Setup::new();
        let volume = Volume::mount(&setup.data_dir(), CAPACITY, seed)?;
        Ok(Self { volume, setup: Some(setup), table: Table::default() })
    }

    /// What is left after the process is gone.
    fn cut(&mut self, chance: &mut Seed) {
        let machine = self.volume.machine();
        let how = match chance.below(3) {
            0 => Cut::All,
            1 => Cut::Some,
            _ => Cut::Torn,
        };
        let place = machine.cut(how, chance.next());
        machine.lock().image.is_restless = chance.one_in(2);
        self.table.cuts += 1;
        self.table.places.entry(place).or_default()[how as usize] += 1;
    }
}

impl Mishap for Cuts {
    fn setup(&mut self) -> Setup {
        let setup = self.setup.take().expect("the campaign begins once");
        setup.set("STORE__SEGMENT_BYTES", "1MiB")
    }

    async fn start(&mut self, setup: Setup, chance: &mut Seed) -> Result<Gateway, Setup> {
        let machine = self.volume.machine().clone();
        let after = chance.below(OF_A_START);
        machine.aim(chance.one_in(3).then_some(Aim { place: None, after }));
        let command = setup.command(["run"]);
        let left = match setup.start_unless(command, machine.frozen()).await {
            Ok(gateway) if machine.is_up() => return Ok(gateway),
            Ok(gateway) => gateway.kill_and(|| machine.power_off()).await,
            Err(starting) => starting.kill_and(|| machine.power_off()).await,
        };
        self.cut(chance);
        Err(left)
    }

    async fn disturb(&mut self, life: &Life, chance: &mut Seed) {
        if !chance.one_in(5) {
            return;
        }
        let machine = self.volume.machine();
        let errno = if chance.one_in(2) { Errno::IO } else { Errno::NOSPC };
        let of_syncs = chance.one_in(2);
        let lasts = chance.one_in(3);
        let after = chance.below(40);
        let aims = Place::AIMS.len() as u64;
        let place = Place::AIMS[usize::try_from(chance.below(aims)).unwrap()];
        // Once it is up, nothing is its start.
        let place = Some(place).filter(|place| *place != Place::StartUp);
        let times = if lasts { u64::MAX } else { 1 + chance.below(2) };
        let mut failed = machine.failed();
        failed.mark_unchanged();
        life.stopping();
        machine.set_fault(Some(Fault { of_syncs, place, after, times, errno }));
        // So many without one that strikes mean that there is none.
        let passed = life.so_far() + 400;
        let many = if lasts { 5 } else { 1 };
        for _ in 0..many {
            tokio::select! {
                _ = failed.changed() => {}
                () = life.reaches(passed) => break,
            }
        }
        machine.set_fault(None);
        life.each_goes_on(&STREAMS).await;
        let name = match (of_syncs, errno == Errno::IO) {
            (true, true) => "syncs fail (EIO)",
            (true, false) => "syncs fail (ENOSPC)",
            (false, true) => "writes fail (EIO)",
            (false, false) => "writes fail (ENOSPC)",
        };
        *self.table.faults.entry(name).or_default() += 1;
    }

    async fn strike(&mut self, mut gateway: Gateway, life: &Life, chance: &mut Seed) -> Setup {
        let machine = self.volume.machine().clone();
        let place = Place::AIMS[usize::try_from(chance.below(8)).unwrap()];
        let place = Some(place).filter(|place| *place != Place::StartUp);
        // Few make it likely that the cut falls into a start, many that it
        // falls into a rotation.
        let after = [4, 60, 600][usize::try_from(chance.below(3)).unwrap()];
        let after = chance.below(after);
        let longest = if chance.one_in(4) { 3000 } else { 300 };
        let moment = life.so_far() + 1 + chance.below(longest);
        if chance.one_in(8) {
            // In the middle of an orderly end, which changes more than that.
            life.stopping();
            machine.aim(Some(Aim { place: None, after: after % 30 }));
            gateway.signal("TERM");
            let cut = async {
                tokio::select! {
                    () = machine.frozen() => {}
                    // It had less to change, so soon after its start.
                    () = gateway.ended() => machine.freeze(),
                }
            };
            tokio::time::timeout(DEADLINE, cut).await.expect("the gateway does not stop");
        } else {
            machine.aim(Some(Aim { place, after }).filter(|_| !chance.one_in(4)));
            tokio::select! {
                () = machine.frozen() => {}
                () = life.reaches(moment) => machine.freeze(),
            }
        }
        let setup = gateway.kill_and(|| machine.power_off()).await;
        self.cut(chance);
        setup
    }
}

impl Drop for Cuts {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("power-cut-trail");
            let written = std::fs::write(&path, self.volume.machine().trail());
            eprintln!("{}the last changes: {} ({written:?})", self.table, path.display());
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["all", "some", "torn"].map(|how| format!("{how:>8}")).concat();
        writeln!(f, "{:24}{header}", "the power went during")?;
        for (place, [all, some, torn]) in &self.places {
            writeln!(f, "{place:24}{all:8}{some:8}{torn:8}")?;
        }
        writeln!(f, "{:24}{:8} cuts", "in all", self.cuts)?;
        for (fault, times) in &self.faults {
            writeln!(f, "{fault:24}{times:8} rounds")?;
        }
        Ok(())
    }
}
