//! The context broker's side: notifications in, write-backs out.

pub mod dead_letters;
pub mod ngsi;
pub mod outcome;
pub mod replay;
