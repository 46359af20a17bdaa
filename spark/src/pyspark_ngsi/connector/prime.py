"""`Prime`: a DStream of events that is acknowledged batch by batch."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pyspark import RDD, SparkContext
from pyspark.streaming import DStream, StreamingContext
from pyspark.streaming.listener import StreamingListener

from pyspark_ngsi.connector.progress import Progress
from pyspark_ngsi.connector.reading import Stream, events
from pyspark_ngsi.connector.settings import RECV_SINGLETON, share
from pyspark_ngsi.errors import OptionError

# A range is cut no smaller than this: each part is a request of its own.
LEAST_PART = 200


def Prime(
    sparkcontext: SparkContext, window_seconds: float, storage: Any = None
) -> tuple[DStream[Any], StreamingContext]:
    """Make a DStream of the notifications of `RECV_SINGLETON`'s stream.

    Each interval of `window_seconds` takes what has come since the last one, at
    most `max_records`, as a fixed range of numbers; executors read it from the
    gateway, and read the same again where Spark recomputes it. The range is
    acknowledged once all output operations of its batch have succeeded. What
    was not acknowledged comes again to the next start: at least once.

    `storage` (a `StorageLevel`) is where Spark keeps a batch until it is done, for
    jobs with several output operations; `None` reads it again for each.
    """
    access = RECV_SINGLETON.access()
    if access is None:
        raise OptionError(
            'set RECV_SINGLETON.url = "https://GATEWAY:8443", and ca, cert and key: notifications '
            "are kept by the gateway now, and read from there"
        )
    settings = RECV_SINGLETON
    progress = Progress(
        Stream(access, settings.gateway, settings.stream),
        settings.consumer,
        settings.max_records,
        settings.fail_on_data_loss,
    )
    partitions = settings.partitions or sparkcontext.defaultParallelism
    context = StreamingContext(sparkcontext, window_seconds)
    is_complete = settings.request_completeness
    source = _Source(progress, partitions, settings.fail_on_data_loss, is_complete)

    def of_batch(time: datetime, rdd: RDD[Any]) -> RDD[Any]:
        return source.rdd(time, rdd)

    # Something that gives an RDD each interval; what is in it is of no interest.
    nothing = sparkcontext.parallelize([0], 1)
    stream = context.queueStream([nothing], default=nothing).transform(of_batch)
    if storage:
        stream = stream.persist(storage)
    context.addStreamingListener(_Listener(progress))
    return stream, context


class _Source:
    """Makes the RDD of a batch; Spark may ask for the same one several times."""

    def __init__(
        self, progress: Progress, partitions: int, fails_on_data_loss: bool, is_complete: bool
    ) -> None:
        self._progress = progress
        self._partitions = partitions
        self._fails = fails_on_data_loss
        self._is_complete = is_complete

    def rdd(self, time: datetime, rdd: RDD[Any]) -> RDD[Any]:
        """Give the events of the batch of that time."""
        share(rdd.context)
        taken = self._progress.range_of(round(time.timestamp() * 1000))
        parts = _parts(taken.begin, taken.end, self._partitions)
        stream, fails, is_complete = taken.stream, self._fails, self._is_complete

        def read(part: tuple[int, int]) -> Any:
            return events(stream, part[0], part[1], fails, is_complete)

        return rdd.context.parallelize(parts, max(len(parts), 1)).flatMap(read)


def _parts(start: int, until: int, most: int) -> list[tuple[int, int]]:
    size = max(LEAST_PART, -(-(until - start) // most))
    return [(at, min(at + size, until)) for at in range(start, until, size)]


class _Listener(StreamingListener):
    """Hears of the ends of batches."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def onBatchCompleted(self, batchCompleted: Any) -> None:
        """Acknowledge what the batch had, unless an output operation of it failed."""
        info = batchCompleted.batchInfo()
        failures = []
        outputs = info.outputOperationInfos()
        for output in outputs.values():
            reason = output.failureReason()
            # An Option, a text or nothing, as the version has it.
            if reason is not None and hasattr(reason, "isDefined"):
                reason = reason.get() if reason.isDefined() else None
            if reason is not None:
                failures.append(str(reason))
        self._progress.completed(info.batchTime().milliseconds(), failures[0] if failures else None)
