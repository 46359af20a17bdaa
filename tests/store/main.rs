//! What the store promises, checked through its public API on a real disk.

mod support;

mod crash;
mod damage;
mod flipped_bits;
mod full_disk;
mod keeping;
mod large_files;
mod positions;
mod reading;
mod retention;
