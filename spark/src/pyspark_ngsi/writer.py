"""`df.writeStream.format("ngsi")` and `df.write.format("ngsi")`: rows become writes to Orion.

Exactly once from the query to the gateway: a batch's rows count in one atomic
step for each gateway, under the query's id and the batch's number, however
often Spark tries. From there the gateway brings them to Orion.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyspark import TaskContext
from pyspark.sql import datasource
from pyspark.sql.types import StructType

from pyspark_ngsi import write_stage
from pyspark_ngsi.errors import GatewayError, OptionError
from pyspark_ngsi.write_options import WriteOptions
from pyspark_ngsi.write_rows import RowEncoder
from pyspark_ngsi.write_stage import Attempts, Gateways, Stage
from pyspark_ngsi.write_values import BadValue

log = logging.getLogger("pyspark_ngsi")
# Rows to show of those that were skipped, for each task.
SHOWN = 3
# Since 4.1; before, rows come one by one.
_StreamWriter: type = getattr(
    datasource, "DataSourceStreamArrowWriter", datasource.DataSourceStreamWriter
)


class BadRow(GatewayError):
    """A row that can be no write, where the option `onBadRow` is `fail`."""


@dataclass
class Staged(datasource.WriterCommitMessage):
    """What a task tells the driver."""

    query: str
    attempts: Attempts
    rows: int = 0
    skipped: int = field(default=0)


def stream_writer(
    options: Mapping[str, str], schema: StructType, overwrite: bool
) -> datasource.DataSourceStreamWriter:
    """Give the writer of a streaming query; raises `OptionError` before anything runs."""
    wanted = WriteOptions.from_options(options)
    if wanted.txn is not None:
        raise OptionError(
            "txnAppId and txnVersion are for batch writes: a streaming query has its own id "
            "and batch numbers, in its checkpoint"
        )
    return NgsiStreamWriter(wanted, schema)


def batch_writer(
    options: Mapping[str, str], schema: StructType, overwrite: bool
) -> datasource.DataSourceArrowWriter:
    """Give the writer of one batch; raises `OptionError` before anything runs."""
    if overwrite:
        raise OptionError(
            'mode("overwrite") cannot empty a context broker: use mode("append"), and the option '
            'operation to say what becomes of entities that exist ("replace", "delete", …)'
        )
    return NgsiBatchWriter(WriteOptions.from_options(options), schema)


class _Writer:
    """What both writers do."""

    # Nobody who would repeat it outlives this process: its name is made up here.
    once = False

    def __init__(self, options: WriteOptions, schema: StructType) -> None:
        self.options = options
        self.schema = schema
        # What is wrong with the columns is told on the driver.
        RowEncoder(schema, options)

    def stage(self, batches: Iterable[Any], query: str, batch: int) -> Staged:
        """Stage one task's rows, as pyarrow's record batches or as Spark's rows."""
        context = TaskContext.get()
        assert context is not None
        encoder, bad = RowEncoder(self.schema, self.options), _BadRows(self.options)
        stage = Stage(
            Gateways(self.options.accesses),
            query,
            batch,
            context.partitionId(),
            piece_bytes=self.options.stage_bytes,
            refused=lambda line, reason: bad.found(lambda: line, reason),
        )
        rows = 0
        for row in _rows(batches):
            rows += 1
            try:
                gateway, line = encoder.encode(row)
            except BadValue as problem:
                bad.found(lambda row=row: encoder.describe(row), str(problem))
                continue
            stage.add(gateway, line)
        return Staged(query, stage.finish(), rows, bad.count)

    def finish(self, messages: Sequence[Staged | None], batch: int) -> None:
        """Commit what the tasks staged."""
        staged = [message for message in messages if message is not None]
        gateways = Gateways(self.options.accesses)
        for query in sorted({message.query for message in staged}):
            attempts = (message.attempts for message in staged if message.query == query)
            write_stage.commit(gateways, query, batch, attempts, once=self.once)
        skipped = sum(message.skipped for message in staged)
        if skipped:
            rows = sum(message.rows for message in staged)
            log.warning("batch %s: %s of %s rows were no writes, skipped", batch, skipped, rows)

    def drop(self, messages: Sequence[Staged | None], batch: int) -> None:
        """Drop what the tasks staged."""
        staged = [message for message in messages if message is not None]
        gateways = Gateways(self.options.accesses)
        for query in {message.query for message in staged}:
            attempts = (message.attempts for message in staged if message.query == query)
            write_stage.abort(gateways, query, batch, attempts)


class _BadRows:
    def __init__(self, options: WriteOptions) -> None:
        self.skip = options.skip_bad_rows
        self.count = 0

    def found(self, show: Callable[[], str], reason: str) -> None:
        """Count a row that can be no write, or fail with it."""
        self.count += 1
        if not self.skip:
            raise BadRow(
                f"a row can be no write: {reason}. The row: {show()}. Filter such rows, or set "
                'the option "onBadRow" to "skip", which counts them and goes on'
            )
        if self.count <= SHOWN:
            log.warning("a row was skipped: %s. The row: %s", reason, show())


class NgsiStreamWriter(_Writer, _StreamWriter):
    """The sink of a streaming query."""

    def write(self, iterator: Iterator[Any]) -> Staged:
        """Stage one task's rows under the query's id and the batch's number."""
        context = TaskContext.get()
        assert context is not None
        query = context.getLocalProperty("sql.streaming.queryId")
        batch = context.getLocalProperty("streaming.sql.batchId")
        if query is None or batch is None:
            raise GatewayError(
                "Spark did not tell the task its query and batch; without them a repeat could not "
                "be told from a new batch, and nothing is written"
            )
        return self.stage(iterator, query, int(batch))

    def commit(self, messages: list[Staged | None], batchId: int) -> None:
        """Make the batch count; a repeat changes nothing."""
        self.finish(messages, batchId)

    def abort(self, messages: list[Staged | None], batchId: int) -> None:
        """Drop what was staged for the batch."""
        self.drop(messages, batchId)


class NgsiBatchWriter(_Writer, datasource.DataSourceArrowWriter):
    """The sink of one batch.

    It counts once, however often its tasks are repeated. The same write started
    again is another one, unless `txnAppId` and `txnVersion` say that it is not.
    """

    def __init__(self, options: WriteOptions, schema: StructType) -> None:
        super().__init__(options, schema)
        self.once = options.txn is None
        self.query, self.batch = options.txn or (f"batch-{uuid.uuid4()}", 0)

    def write(self, iterator: Iterator[Any]) -> Staged:
        """Stage one task's rows."""
        return self.stage(iterator, self.query, self.batch)

    def commit(self, messages: list[Staged | None]) -> None:
        """Make the rows count."""
        self.finish(messages, self.batch)

    def abort(self, messages: list[Staged | None]) -> None:
        """Drop what was staged."""
        self.drop(messages, self.batch)


def _rows(batches: Iterable[Any]) -> Iterator[Sequence[Any]]:
    for batch in batches:
        if isinstance(batch, tuple):
            yield batch
        elif batch.num_columns:
            yield from zip(*(column.to_pylist() for column in batch.columns))
