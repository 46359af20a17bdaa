//! The volatile file system itself: it must be as forgetful as it is taken
//! for, and no more than that.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::content::Cut;
use super::machine::{Fault, Machine};
use super::volume::Volume;

/// A volume in a folder of its own; `None` where there can be none.
fn volume() -> Option<(Volume, tempfile::TempDir)> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = tempfile::Builder::new().prefix("volatile").tempdir_in(target).unwrap();
    match Volume::mount(&folder.path().join("mnt"), 64 << 20, 1) {
        Ok(volume) => Some((volume, folder)),
        Err(why) => {
            eprintln!("skipped: {why}");
            None
        }
    }
}

fn cut(machine: &Machine, cut: Cut, seed: u64) {
    machine.freeze();
    machine.cut(cut, seed);
}

fn sync_folder(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

/// A file whose entry and first content are durable.
fn durable_file(volume: &Volume, name: &str, content: &[u8]) -> (File, PathBuf) {
    let path = volume.path().join(name);
    let mut file = File::create_new(&path).unwrap();
    file.write_all(content).unwrap();
    file.sync_all().unwrap();
    sync_folder(volume.path());
    (file, path)
}

#[test]
fn a_write_without_a_sync_is_gone_after_a_cut_and_a_synced_one_is_not() {
    let Some((volume, _folder)) = volume() else { return };
    let (file, path) = durable_file(&volume, "f", b"first");
    let number = fs::metadata(&path).unwrap().ino();
    file.write_all_at(b"SECOND", 0).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"SECOND");
    cut(volume.machine(), Cut::All, 1);
    assert_eq!(fs::read(&path).unwrap(), b"first");
    assert_eq!(fs::metadata(&path).unwrap().ino(), number, "it is the same file");
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(2).unwrap();
    file.sync_data().unwrap();
    cut(volume.machine(), Cut::All, 1);
    assert_eq!(fs::read(&path).unwrap(), b"fi");
}

#[test]
fn an_entry_is_gone_after_a_cut_unless_its_folder_was_synced() {
    let Some((volume, _folder)) = volume() else { return };
    let root = volume.path();
    durable_file(&volume, "removed", b"r");
    durable_file(&volume, "old-name", b"o");
    fs::create_dir(root.join("folder")).unwrap();
    sync_folder(root);
    let synced = root.join("folder/synced");
    fs::write(&synced, b"content").unwrap();
    File::open(&synced).unwrap().sync_all().unwrap();
    fs::remove_file(root.join("removed")).unwrap();
    fs::rename(root.join("old-name"), root.join("folder/new-name")).unwrap();
    cut(volume.machine(), Cut::All, 1);
    assert!(!synced.exists(), "a sync of the file is none of its folder");
    assert!(root.join("removed").exists() && root.join("old-name").exists());
    assert!(!root.join("folder/new-name").exists());

    fs::remove_file(root.join("removed")).unwrap();
    fs::rename(root.join("old-name"), root.join("folder/new-name")).unwrap();
    sync_folder(root);
    cut(volume.machine(), Cut::All, 1);
    assert!(!root.join("removed").exists() && !root.join("old-name").exists());
    assert_eq!(fs::read(root.join("folder/new-name")).unwrap(), b"o", "a rename is whole");
}

#[test]
fn a_cut_may_keep_some_of_what_was_not_synced_and_tear_the_last_write() {
    let Some((volume, _folder)) = volume() else { return };
    let zeros = vec![0; 16 << 12];
    let (file, path) = durable_file(&volume, "f", &zeros);
    drop(file);
    let (mut mixed, mut torn) = (0, 0);
    for seed in 0..40 {
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&zeros, 0).unwrap();
        file.sync_all().unwrap();
        file.write_all_at(&vec![1; 15 << 12], 0).unwrap();
        file.write_all_at(&vec![2; 1 << 12], 15 << 12).unwrap();
        cut(volume.machine(), Cut::Torn, seed);
        let found = fs::read(&path).unwrap();
        let pages: Vec<&[u8]> = found.chunks(1 << 12).collect();
        for page in &pages[..15] {
            assert!(page.iter().all(|byte| byte == &page[0]), "only the last write is torn");
        }
        mixed += u32::from(pages[..15].iter().any(|page| page[0] != pages[0][0]));
        let sectors: Vec<&[u8]> = pages[15].chunks(512).collect();
        for sector in &sectors {
            assert!(sector.iter().all(|byte| byte == &sector[0]), "a sector is whole");
        }
        let reached = sectors.iter().filter(|sector| sector[0] == 2).count();
        torn += u32::from((1..8).contains(&reached));
    }
    assert!(mixed > 20 && torn > 20, "{mixed} {torn}");
}

#[test]
fn a_failed_sync_marks_its_pages_clean_so_that_repeating_it_saves_nothing() {
    let Some((volume, _folder)) = volume() else { return };
    let (file, path) = durable_file(&volume, "f", &vec![0; 4096 * 8]);
    let fault = |times| Fault { of_syncs: true, place: None, after: 0, times, errno: Errno::IO };
    volume.machine().set_fault(Some(fault(1)));
    let other = File::open(&path).unwrap();
    file.write_all_at(&vec![7; 4096 * 8], 0).unwrap();
    let failed = file.sync_data().unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(Errno::IO.raw_os_error()));
    file.sync_data().unwrap();
    assert!(other.sync_all().is_err(), "every handle is told once");
    other.sync_all().unwrap();
    assert_eq!(*volume.machine().failed().borrow(), 1);
    assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 7), "readable all the same");
    cut(volume.machine(), Cut::All, 1);
    assert!(fs::read(&path).unwrap().contains(&0), "some of it was lost");

    // The same of a folder's entries.
    volume.machine().set_fault(Some(fault(1)));
    fs::write(volume.path().join("new"), b"").unwrap();
    assert!(File::open(volume.path()).unwrap().sync_all().is_err());
    sync_folder(volume.path());
    cut(volume.machine(), Cut::All, 1);
    assert!(!volume.path().join("new").exists());
}

#[test]
fn writes_fail_as_they_are_told_to_and_where_the_disk_is_full() {
    let Some((volume, _folder)) = volume() else { return };
    let (file, path) = durable_file(&volume, "f", b"first");
    let errno = Errno::NOSPC;
    let fault = Fault { of_syncs: false, place: None, after: 1, times: 1, errno };
    volume.machine().set_fault(Some(fault));
    file.write_all_at(b"A", 0).unwrap();
    assert_eq!(file.write_all_at(b"B", 0).unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_all_at(b"C", 0).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"Cirst");

    let before = rustix::fs::statvfs(volume.path()).unwrap();
    let filled = file.write_all_at(&vec![1; 65 << 20], 0).unwrap_err();
    assert_eq!(filled.kind(), ErrorKind::StorageFull);
    fs::remove_file(&path).unwrap();
    drop(file);
    sync_folder(volume.path());
    let after = rustix::fs::statvfs(volume.path()).unwrap();
    assert!(after.f_bavail > before.f_bavail, "room is given back");
}

#[test]
fn room_is_taken_by_fallocate_without_growing_the_file() {
    let Some((volume, _folder)) = volume() else { return };
    let (file, path) = durable_file(&volume, "f", b"x");
    let keeps = rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, keeps, 0, 1 << 20).unwrap();
    let taken = fs::metadata(&path).unwrap();
    assert_eq!((taken.len(), taken.blocks()), (1, (1 << 20) / 512));
    let plain = rustix::fs::FallocateFlags::empty();
    rustix::fs::fallocate(&file, plain, 0, 1 << 20).unwrap();
    file.sync_all().unwrap();
    cut(volume.machine(), Cut::All, 1);
    let content = fs::read(&path).unwrap();
    assert_eq!((content.len(), content[0], content[1]), (1 << 20, b'x', 0));
}

/// The control: on a file system that lets everything pass nothing is proved.
#[test]
fn bare_sled_loses_what_it_flushed() {
    let Some((volume, folder)) = volume() else { return };
    let path = volume.path().join("sled");
    let open = |path: &Path| sled::Config::new().path(path).flush_every_ms(None).open();
    let db = open(&path).unwrap();
    for root in [path.as_path(), volume.path()] {
        sync_folder(root);
    }
    for key in 0..1000_u32 {
        db.insert(key.to_be_bytes(), vec![1; 100]).unwrap();
        db.flush().unwrap();
    }
    cut(volume.machine(), Cut::All, 1);
    // A copy: what sled writes when it is closed would come too late.
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for file in fs::read_dir(&path).unwrap().map(Result::unwrap) {
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
    }
    drop(db);
    let found = std::panic::catch_unwind(|| open(&copy).map_or(0, |db| db.len()));
    let found = found.unwrap_or(0);
    assert!(found < 1000, "{found} of 1000 inserts are there, which nothing synced");
}

#[test]
fn a_name_that_is_made_again_is_durable_however_much_reached_the_disk_before() {
    let Some((volume, _folder)) = volume() else { return };
    volume.machine().lock().image.is_restless = true;
    for at in 0..200 {
        let path = volume.path().join(format!("folder-{at}"));
        fs::create_dir(&path).unwrap();
        fs::remove_dir(&path).unwrap();
        fs::create_dir(&path).unwrap();
    }
    sync_folder(volume.path());
    cut(volume.machine(), Cut::All, 1);
    assert_eq!(fs::read_dir(volume.path()).unwrap().count(), 200);
}
