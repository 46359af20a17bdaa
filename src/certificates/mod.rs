//! The certificates in use, for years: which of them end soon, whether their
//! files have changed, and the gateway's own, which it renews itself.
//!
//! * `report` tells what there is to say of one file, and what a person is to
//!   do;
//! * `changes` notices files that were replaced, and has them taken over;
//! * `reminders` says it in the log, once a day;
//! * `watch` does all that, every minute and when it is asked to.

mod changes;
mod reminders;
mod report;
#[cfg(test)]
mod tests;
mod watch;

pub use changes::User;
pub use report::{Certificate, ClientCertificate, Concern, File, Origin};
pub use watch::{Looked, Watch};
