//! Reading NGSIv2 and NGSI-LD, without changing a byte.

mod notification;

pub use notification::{Glimpse, glimpse};
