//! What is remembered of queries, in the log's state, and how it stays bounded.

use tracing::info;

use super::committed::Outlived;
use super::ledger::Ledger;
use super::{MARK, Staging, StagingError};
use crate::store::PositionError;

impl Staging {
    /// What outlives the segments of a query's last commit.
    pub(super) async fn mark(&self, ledger: &Ledger, query: &str) -> Result<(), PositionError> {
        let Some(last) = ledger.committed.of(query) else { return Ok(()) };
        self.log.set_mark(&format!("{MARK}{query}"), &last.to_string()).await
    }

    /// Keeps what is remembered of queries bounded.
    pub(super) async fn forget_outlived(&self, ledger: &mut Ledger) {
        let outlived = ledger.outlived(self.expiry);
        if outlived == Outlived::default() {
            return;
        }
        let Outlived { ended, unfinished } = outlived;
        let forgotten = async {
            if !unfinished.is_empty() {
                // First: one that is neither remembered nor noted would pass as new.
                self.log.note_names(&unfinished).await?;
            }
            let both = ended.iter().chain(&unfinished);
            self.log.drop_marks(both.map(|query| format!("{MARK}{query}")).collect()).await
        };
        if let Err(error) = forgotten.await {
            info!(%error, "the last batches of queries cannot be forgotten yet");
            return;
        }
        for query in ended.iter().chain(&unfinished) {
            ledger.committed.forget(query);
        }
        if let Some(first) = unfinished.first() {
            info!(
                queries = unfinished.len(),
                first,
                "so many queries have committed since that the last batches of these are forgotten; should they come back they are refused"
            );
        }
    }

    pub(super) async fn refuse_forgotten(
        &self,
        is_known: bool,
        query: &str,
    ) -> Result<(), StagingError> {
        if !is_known && self.log.knows_name(query).await? {
            return Err(StagingError::Forgotten(query.to_owned()));
        }
        Ok(())
    }
}
