//! The laboratory itself: the power cut of a real file system takes what was
//! not synced, and nothing else.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use super::file_systems;
use crate::common::gateway::Setup;
use crate::common::image::Image;

/// Some pages, and not a whole number of them.
const LEN: usize = 10_000;

#[test]
fn a_real_file_system_that_loses_power_has_what_was_synced_and_not_what_was_only_written() {
    for kind in file_systems() {
        let setup = Setup::new();
        let mount = setup.data_dir();
        let image = match Image::make_as(kind, &setup.folder().join("disk"), kind.small(), &mount) {
            Ok(image) => image,
            Err(why) => {
                eprintln!("{kind}: skipped: {why}");
                continue;
            }
        };
        let synced = mount.join("synced");
        let written = mount.join("written");
        let mut file = File::create(&synced).unwrap();
        file.write_all(&[1; LEN]).unwrap();
        file.sync_all().unwrap();
        File::open(&mount).unwrap().sync_all().unwrap();
        file.write_all(&[2; LEN]).unwrap();
        fs::write(&written, [3; LEN]).unwrap();
        let before = fs::metadata(&synced).unwrap();
        drop(file);

        let snapshot = image.snapshot().unwrap();
        let _image = image.lose_power(snapshot).unwrap();

        let found = fs::read(&synced).unwrap();
        assert!(found == [1; LEN], "{kind}: {} bytes of the synced file", found.len());
        let found = fs::read(&written).unwrap_or_default();
        assert!(!found.contains(&3), "{kind}: {} bytes were never synced", found.len());
        // Not a copied folder but the same disk: a log keeps its epoch.
        let after = fs::metadata(&synced).unwrap();
        assert_eq!(after.ino(), before.ino());
        assert_eq!(after.created().unwrap(), before.created().unwrap());
    }
}
