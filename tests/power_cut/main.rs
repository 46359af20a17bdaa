//! The volatile file system and its tests.

mod attributes;
mod content;
mod file_system;
mod fuse;
mod image;
mod journal;
mod machine;
mod place;
#[path = "../kill/seed.rs"]
mod seed;
mod volume;
