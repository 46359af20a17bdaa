//! The oracle that campaigns share: load, what was promised, and the audit.

// Each campaign uses a part of it: what one leaves unused, another uses.
#![allow(dead_code)]

pub mod campaign;
pub mod drivers;
pub mod kill_9;
pub mod life;
pub mod orion_side;
pub mod seed;
pub mod senders;
pub mod streams;
pub mod writers;
