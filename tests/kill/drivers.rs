//! Spark queries that write to Orion: they stage, commit, and begin a batch
//! again after a crash until it is answered as done.

use serde_json::Value;

use super::life::{Ended, Going, Life};
use super::seed::Seed;
use super::writers::{Taken, Written, attributes};
use crate::common::spark::{Reply, Spark, row};

/// One streaming query and its checkpoint: the batch that is under way.
#[derive(Clone)]
pub struct Driver {
    pub query: String,
    pub entities: Vec<String>,
    /// Named in staged rows that no commit ever names.
    never: String,
    batch: u64,
    attempt: u64,
    /// Attempts whose staging was answered, all of this batch.
    staged: Option<Vec<String>>,
    /// A commit of this batch was sent: it may count.
    commit_sent: bool,
    pub batches: u64,
    chance: Seed,
}

impl Driver {
    pub fn new(query: String, entities: Vec<String>, never: String, chance: Seed) -> Self {
        let (batch, attempt, batches) = (0, 0, 0);
        let (staged, commit_sent) = (None, false);
        Self { query, entities, never, batch, attempt, staged, commit_sent, batches, chance }
    }

    /// Writes batches until the gateway is gone.
    pub async fn run(mut self, spark: Spark, to: Written, life: Life) -> Self {
        while self.batch(&spark, &to, &life).await.is_ok() || life.tries_again().await {}
        self
    }

    /// Brings the batch under way to its end where a commit of it was sent.
    pub async fn finish(&mut self, spark: &Spark, to: &Written, life: &Life) {
        if self.commit_sent {
            assert!(self.batch(spark, to, life).await.is_ok(), "{} is not finished", self.query);
        }
    }

    async fn batch(&mut self, spark: &Spark, to: &Written, life: &Life) -> Going<()> {
        let query = self.query.clone();
        let batch = (query.as_str(), self.batch);
        // Spark stages anew after a crash; a gateway that kept what was staged
        // must take that too.
        let attempts = match self.staged.clone() {
            Some(staged) if self.chance.one_in(2) => staged,
            _ => self.stage(spark, to, life).await?,
        };
        // An abort that the line holds back may come after what follows it.
        if self.chance.one_in(8) && !self.commit_sent && !life.has_rough_lines() {
            // Sent is enough: whether it was answered or not.
            self.staged = None;
            answered(spark.try_abort(batch).await, life)?.done();
            let refused = answered(spark.try_commit(batch, &attempts).await, life)?;
            assert_eq!(refused.status, 410, "{refused:?}");
            return Ok(());
        }
        if !self.commit_sent {
            self.note(to, Taken::Unknown);
            self.commit_sent = true;
        }
        let committed = answered(spark.try_commit(batch, &attempts).await, life)?;
        committed.done();
        self.note(to, Taken::Yes);
        life.acknowledged("write-backs");
        (self.staged, self.commit_sent) = (None, false);
        self.batch += 1;
        self.batches += 1;
        if self.chance.one_in(3) {
            let again = answered(spark.try_commit(batch, &attempts).await, life)?;
            assert_eq!(again.done(), "before");
            let again = answered(spark.try_stage(batch, "late", &[]).await, life)?;
            assert_eq!(again.done(), "before");
        }
        Ok(())
    }

    /// Stages the batch's rows in attempts of its choice, and sometimes some
    /// that do not count.
    async fn stage(&mut self, spark: &Spark, to: &Written, life: &Life) -> Going<Vec<String>> {
        let query = self.query.clone();
        let batch = (query.as_str(), self.batch);
        let parts = 1 + self.chance.below(3);
        let mut rows: Vec<Vec<Value>> = vec![Vec::new(); usize::try_from(parts).unwrap()];
        for entity in self.entities.clone() {
            let part = usize::try_from(self.chance.below(parts)).unwrap();
            rows[part].extend(self.rows_of(&entity));
        }
        if self.chance.one_in(4) {
            to.note(&self.never, 1, Taken::Never);
            let path = format!("/v2/entities/{}/attrs", self.never);
            let zombie = row("PATCH", &path, &attributes(1, false));
            self.stage_one(spark, &[zombie], life).await?;
        }
        let mut attempts = Vec::new();
        for rows in rows {
            attempts.push(self.stage_one(spark, &rows, life).await?);
        }
        if self.chance.one_in(4) {
            let last = attempts.last().unwrap().clone();
            let again = answered(spark.try_stage(batch, &last, &[]).await, life)?;
            assert_eq!(again.done(), "before");
        }
        self.staged = Some(attempts.clone());
        Ok(attempts)
    }

    async fn stage_one(&mut self, spark: &Spark, rows: &[Value], life: &Life) -> Going<String> {
        self.attempt += 1;
        let attempt = format!("a{}", self.attempt);
        let batch = (self.query.as_str(), self.batch);
        answered(spark.try_stage(batch, &attempt, rows).await, life)?.done();
        Ok(attempt)
    }

    /// Three writes of each entity, the last of which must not be repeated.
    fn rows_of(&self, entity: &str) -> Vec<Value> {
        let path = format!("/v2/entities/{entity}/attrs");
        let numbers = self.numbers();
        numbers.map(|(number, once)| row("PATCH", &path, &attributes(number, once))).to_vec()
    }

    fn numbers(&self) -> [(u64, bool); 3] {
        let first = 3 * self.batch + 1;
        [(first, false), (first + 1, false), (first + 2, true)]
    }

    fn note(&self, to: &Written, taken: Taken) {
        for entity in &self.entities {
            for (number, _) in self.numbers() {
                to.note(entity, number, taken);
            }
        }
    }
}

fn answered(reply: reqwest::Result<Reply>, life: &Life) -> Going<Reply> {
    match reply {
        Err(_) => Err(Ended),
        Ok(reply) if reply.status == 503 => {
            life.refused(&reply.body);
            Err(Ended)
        }
        Ok(reply) => Ok(reply),
    }
}
