//! The context broker's side: notifications in, write-backs out.

pub mod ngsi;
pub mod outcome;
