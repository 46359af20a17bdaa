//! Reading NGSIv2 and NGSI-LD, without changing a byte.
//!
//! * `notification`: what a notification is about, for routing only;
//! * `normalize`: a notification written out for readers that know one form;
//! * `route`: which operation a method and path ask for;
//! * `write`: whom a write-back is for, and whether it may be sent twice;
//! * `answer`: what Orion would answer to it;
//! * `split`, `coalesce`: cutting a batch for Orion's limit, and merging two
//!   updates of one entity.
//!
//! Everything here is pure. Bodies are never rebuilt from a parsed tree: what
//! is cut or merged is moved as the text it came in, so that a number keeps
//! every digit. Where the rules say "Orion", they come from Orion 4.7 as
//! measured and from the sources of Orion and Orion-LD; "NGSIv2" and "NGSI-LD"
//! are the specifications (ETSI GS CIM 009 for the latter).

mod answer;
mod coalesce;
mod json;
mod normalize;
mod notification;
mod operators;
mod route;
mod split;
mod write;

pub use answer::{Answer, Refusal, accepted_answer, validate};
pub use coalesce::coalesce;
pub use normalize::{Normalized, Told, Unconvertible, normalize, one_line};
pub use notification::{Glimpse, glimpse};
pub use route::{Access, Api, BatchAction, Kind, access, is_write};
pub use split::split;
pub use write::{AfterAmbiguity, EntityKey, Targets, WriteRequest};

pub(crate) use json::{elements, members, write_array, write_object};

/// The longest request body that Orion takes: 1 MiB, more is answered 413
/// (Orion's `PAYLOAD_MAX_SIZE`, measured).
pub const MAX_BODY: usize = 1024 * 1024;
