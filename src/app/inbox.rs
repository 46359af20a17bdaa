//! What the uplink pulls goes to Spark's staging, as if Spark had sent it here.

use std::sync::Arc;

use crate::record::{Record, Sequence};
use crate::spark::Staging;
use crate::uplink;
use crate::write_back::Pulled;

/// The gateway's own staging, as the uplink knows it.
pub(super) struct Inbox(pub Arc<Staging>);

impl uplink::Inbox for Inbox {
    async fn taken_over(&self) -> Result<Option<Pulled>, String> {
        self.0.taken_over().await.map_err(|error| error.to_string())
    }

    async fn take_over(
        &self,
        records: Vec<Record>,
        upto: Pulled,
        acknowledged: Sequence,
    ) -> Result<(), String> {
        let taken = self.0.take_over(records, upto, acknowledged).await;
        taken.map_err(|error| error.to_string())
    }

    async fn settle(&self) -> Result<Option<Pulled>, String> {
        self.0.settle_taken_over().await.map_err(|error| error.to_string())
    }
}
