"""`spark.readStream.format("ngsi")` and `spark.read.format("ngsi")`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql.datasource import DataSourceReader, DataSourceStreamReader, InputPartition

from pyspark_ngsi import offsets, ranges
from pyspark_ngsi.driver import Driver
from pyspark_ngsi.errors import DataLoss, OptionError
from pyspark_ngsi.fleet import Stream, ask
from pyspark_ngsi.options import ReadOptions
from pyspark_ngsi.ranges import Range

try:  # Spark 4.2 and later
    from pyspark.sql.streaming.datasource import (
        ReadAllAvailable,
        ReadMaxBytes,
        ReadMaxRows,
        SupportsTriggerAvailableNow,
    )
except ImportError:
    ReadAllAvailable = ReadMaxBytes = ReadMaxRows = None

    class SupportsTriggerAvailableNow:  # type: ignore[no-redef]
        """Not in this version: one batch takes all that there is."""


class RangesPartition(InputPartition):
    """What one task reads."""

    def __init__(self, held: list[Range]) -> None:
        super().__init__(held)


class NgsiStreamReader(DataSourceStreamReader, SupportsTriggerAvailableNow):
    """One streaming query; its `Driver` lives in the process beside Spark's driver."""

    def __init__(self, options: ReadOptions) -> None:
        self._options = options.for_streaming()
        self._made: Driver | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Executors get the options alone.
        return {"_options": self._options, "_made": None}

    @property
    def _driver(self) -> Driver:
        if self._made is None:
            self._made = Driver(self._options)
        return self._made

    def initialOffset(self) -> dict[str, Any]:
        """Give the offset before the first batch."""
        return offsets.NOTHING.document()

    def latestOffset(
        self, start: Mapping[str, Any] | None = None, limit: Any = None
    ) -> dict[str, Any]:
        """Give where the next batch ends; `start` itself where there is nothing new."""
        is_limited = limit is not None and not isinstance(limit, ReadAllAvailable)
        return self._driver.latest(start, is_limited)

    def getDefaultReadLimit(self) -> Any:
        """Tell Spark of the options that limit a batch."""
        if self._options.max_records is not None:
            return ReadMaxRows(self._options.max_records)
        if self._options.max_bytes is not None:
            return ReadMaxBytes(self._options.max_bytes)
        return ReadAllAvailable()

    def prepareForTriggerAvailableNow(self) -> None:
        """Note what there is: the query ends there."""
        self._driver.note_target()

    def reportLatestOffset(self) -> dict[str, Any] | None:
        """Tell where the streams end, for the query's progress."""
        return self._driver.ends()

    def partitions(self, start: dict[str, Any], end: dict[str, Any]) -> Sequence[InputPartition]:
        """Divide a batch over tasks."""
        held = self._driver.plan(start, end)
        return [RangesPartition(part) for part in ranges.divide(held, self._options.partitions)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Read one part, on an executor."""
        return _read(self._options, partition)

    def commit(self, end: dict[str, Any]) -> None:
        """Let the gateways forget what is processed."""
        self._driver.processed(end)

    def stop(self) -> None:
        """Give the consumer back."""
        if self._made is not None:
            self._made.stop()


class NgsiBatchReader(DataSourceReader):
    """Reads what is stored when the query is planned; acknowledges nothing."""

    def __init__(self, options: ReadOptions) -> None:
        self._options = options

    def partitions(self) -> list[InputPartition]:
        """Ask every gateway what it has, and divide that over tasks."""
        options = self._options
        streams: dict[str, Stream] = {}
        for access in options.accesses:
            streams.update(ask(access, options.streams))
        held: list[Range] = []
        for _, stream in sorted(streams.items()):
            begin = offsets.beginning(stream, options.starting)
            end = offsets.beginning(stream, options.ending)
            if options.ending.of(stream.gateway, stream.name) == "earliest":
                raise OptionError('the option "endingOffsets" cannot be earliest')
            logs = [*stream.earlier, stream.current]
            known = [one.epoch for one in logs]
            for place in (begin, end):
                if place.epoch not in known:
                    raise DataLoss(f"{stream.key} has no epoch {place.epoch} (any more)")
            for one in logs[known.index(begin.epoch) : known.index(end.epoch) + 1]:
                first = begin.seq if one.epoch == begin.epoch else one.earliest
                last = min(end.seq, one.next) if one.epoch == end.epoch else one.next
                if first < last:
                    held.append(Range.of(stream, one.epoch, first, last))
        parts = ranges.divide(held, options.partitions) if held else []
        return [RangesPartition(part) for part in parts]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Read one part, on an executor."""
        return _read(self._options, partition)


def _read(options: ReadOptions, partition: InputPartition | None) -> Iterator[pa.RecordBatch]:
    # Spark makes an empty partition where there is none.
    held = partition.value if partition is not None else None
    return ranges.read(held or [], options.columns, options.fail_on_data_loss)
