//! What may happen to a file or a folder, and to which.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::seed::Seed;
use crate::support::{files, flip, log_folder, noise, segments};

const PAGE: u64 = 4096;

/// What is harmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    Db,
    Conf,
    Snap,
    Seal,
    Made,
    Blobs,
    SegmentFolder,
    SegmentsFolder,
    OneState,
    BothStates,
    Epoch,
    LogFolder,
    StreamsFolder,
    Lock,
    Ballast,
}

/// What is done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    Flipped,
    Truncated,
    Emptied,
    Removed,
    Zeros,
    Noise,
    Swapped,
    /// A folder where a file was, or a file where a folder was.
    OtherKind,
}

pub const HARMS: [Harm; 8] = [
    Harm::Flipped,
    Harm::Truncated,
    Harm::Emptied,
    Harm::Removed,
    Harm::Zeros,
    Harm::Noise,
    Harm::Swapped,
    Harm::OtherKind,
];

pub const VICTIMS: [Victim; 15] = [
    Victim::Db,
    Victim::Conf,
    Victim::Snap,
    Victim::Seal,
    Victim::Made,
    Victim::Blobs,
    Victim::SegmentFolder,
    Victim::SegmentsFolder,
    Victim::OneState,
    Victim::BothStates,
    Victim::Epoch,
    Victim::LogFolder,
    Victim::StreamsFolder,
    Victim::Lock,
    Victim::Ballast,
];

impl Victim {
    /// What may be done to it: a folder has no bytes.
    pub fn harms(self) -> &'static [Harm] {
        match self {
            Self::Blobs
            | Self::SegmentFolder
            | Self::SegmentsFolder
            | Self::LogFolder
            | Self::StreamsFolder => &[Harm::Removed, Harm::OtherKind],
            _ => &HARMS,
        }
    }

    /// One of its kind, where there is any; both where it is two.
    pub fn choose(self, data: &Path, seed: &mut Seed) -> Vec<PathBuf> {
        let log = log_folder(data);
        let mut one_of = |mut paths: Vec<PathBuf>| {
            if paths.is_empty() {
                return paths;
            }
            let at = usize::try_from(seed.below(paths.len() as u64)).unwrap();
            vec![paths.swap_remove(at)]
        };
        let of_segments = |name: &str| -> Vec<PathBuf> {
            let all = files(&log.join("segments"));
            let name_of = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
            all.into_iter().filter(|path| name_of(path).starts_with(name)).collect()
        };
        match self {
            Self::Db => one_of(of_segments("db")),
            Self::Conf => one_of(of_segments("conf")),
            Self::Snap => one_of(of_segments("snap.")),
            Self::Seal => one_of(of_segments("seal")),
            Self::Made => one_of(of_segments("made")),
            Self::Blobs => one_of(segments(data).iter().map(|s| s.join("blobs")).collect()),
            Self::SegmentFolder => one_of(segments(data)),
            Self::SegmentsFolder => vec![log.join("segments")],
            Self::OneState => one_of(vec![log.join("state.a"), log.join("state.b")]),
            Self::BothStates => vec![log.join("state.a"), log.join("state.b")],
            Self::Epoch => vec![log.join("epoch")],
            Self::LogFolder => vec![log],
            Self::StreamsFolder => vec![data.join("streams")],
            Self::Lock => vec![data.join("lock")],
            Self::Ballast => vec![data.join("ballast.0")],
        }
    }
}

/// Does it, and says what was done. The file stays the same one where it
/// stays a file, as under a failing disk.
pub fn harm(path: &Path, harm: Harm, seed: &mut Seed) -> String {
    let len = fs::metadata(path).map_or(0, |file| file.len());
    // Heads are short, and what stands behind may be nothing but zeros.
    let within = if seed.one_in(3) { len.min(512) } else { len };
    let place = seed.below(within.max(1));
    let said = format!("{} {harm:?} at {place} of {len}", path.display());
    match harm {
        Harm::Removed => remove(path),
        Harm::OtherKind if path.is_dir() => {
            remove(path);
            fs::write(path, b"no folder").unwrap();
        }
        Harm::OtherKind => {
            remove(path);
            fs::create_dir(path).unwrap();
            fs::write(path.join("something"), b"in the way").unwrap();
        }
        Harm::Emptied => resize(path, 0),
        Harm::Truncated => resize(path, place),
        Harm::Flipped if len > 0 => flip(path, place * 8 + seed.below(8)),
        Harm::Swapped if len > 1 => swap(path, len, seed),
        Harm::Zeros => overwrite(path, len, place, seed, |len| vec![0; len]),
        Harm::Flipped | Harm::Swapped | Harm::Noise => {
            let noise_seed = seed.next();
            overwrite(path, len, place, seed, |len| noise(noise_seed, len));
        }
    }
    said
}

fn remove(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

fn resize(path: &Path, len: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

/// All of it, or from a place on for as long as a bad block is.
fn overwrite(path: &Path, len: u64, at: u64, seed: &mut Seed, with: impl Fn(usize) -> Vec<u8>) {
    let (at, len) = if len == 0 {
        (0, 64)
    } else if seed.one_in(2) {
        (0, len)
    } else {
        (at, PAGE.min(len - at))
    };
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&with(usize::try_from(len).unwrap()), at).unwrap();
}

/// Two pages in each other's place; the halves of what is shorter than two.
fn swap(path: &Path, len: u64, seed: &mut Seed) {
    let size = PAGE.min(len / 2);
    let pages = len / size;
    let one = seed.below(pages);
    let other = (one + 1 + seed.below(pages - 1)) % pages;
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let read = |page: u64| {
        let mut bytes = vec![0; usize::try_from(size).unwrap()];
        file.read_exact_at(&mut bytes, page * size).unwrap();
        bytes
    };
    let (first, second) = (read(one), read(other));
    file.write_all_at(&second, one * size).unwrap();
    file.write_all_at(&first, other * size).unwrap();
}
