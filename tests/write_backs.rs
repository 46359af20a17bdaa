//! Write-backs from Spark to Orion, through the real program: in order, once,
//! or a dead letter with the reason.

mod common;

#[path = "write_backs/ambiguity.rs"]
mod ambiguity;
#[path = "write_backs/batches.rs"]
mod batches;
#[path = "write_backs/dead_letters.rs"]
mod dead_letters;
#[path = "write_backs/forgetting.rs"]
mod forgetting;
#[path = "write_backs/helpers.rs"]
mod helpers;
#[path = "write_backs/order.rs"]
mod order;
#[path = "write_backs/partial.rs"]
mod partial;
#[path = "write_backs/pass_through.rs"]
mod pass_through;
#[path = "write_backs/patience.rs"]
mod patience;
#[path = "write_backs/rate.rs"]
mod rate;
#[path = "write_backs/staging.rs"]
mod staging;
#[path = "write_backs/targets.rs"]
mod targets;
