"""Ranges of records: divided over Spark's tasks, and read exactly, whatever happens."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from pyspark_ngsi import batches, http
from pyspark_ngsi.errors import Conflict, DataLoss, GatewayError, Gone, Refused, Unreachable
from pyspark_ngsi.fleet import Stream, is_refilling
from pyspark_ngsi.http import Access
from pyspark_ngsi.schema import Columns

log = logging.getLogger("pyspark_ngsi")
# Bytes of lines in one answer, and so in one Arrow batch.
ANSWER_BYTES = 8 << 20
# A task costs tens of milliseconds: fewer records are not worth one.
LEAST_RECORDS = 2000
WAIT_S = 5.0
PAUSE_S = 0.5

WHY = {
    "evicted": "the gateway's retention deleted them before this query had read them: give "
    "`store.max_bytes` or `store.max_age` there more room",
    "acknowledged": "every consumer of the stream had acknowledged them: this query's consumer "
    "was not registered then, or its records were acknowledged by another query",
    "lost": "damage at the gateway took them; `ngsi-ferry status` there tells of it",
}
GO_ON = 'To go on without them set .option("failOnDataLoss", "false")'


@dataclass(frozen=True)
class Range:
    """Numbers of one log: from `begin`, below `end`."""

    access: Access
    path: str
    """Of the stream, in the API."""
    gateway: str
    stream: str
    epoch: str
    begin: int
    end: int
    can_be_refilled: bool = False
    """Of a log that a relay is filled with again where it lost it."""

    @staticmethod
    def of(stream: Stream, epoch: str, begin: int, end: int) -> Range:
        """Make a range of a stream that a gateway told of."""
        return Range(
            stream.access,
            stream.path,
            stream.gateway,
            stream.name,
            epoch,
            begin,
            end,
            stream.is_replica and epoch == stream.current.epoch,
        )


def divide(ranges: list[Range], parts: int) -> list[list[Range]]:
    """Divide ranges into at most so many parts of about the same size, in order."""
    total = sum(r.end - r.begin for r in ranges)
    parts = max(1, min(parts, -(-total // LEAST_RECORDS)))
    size = -(-total // parts)
    divided: list[list[Range]] = []
    room = 0
    for whole in ranges:
        begin = whole.begin
        while begin < whole.end:
            if room == 0:
                divided.append([])
                room = size
            end = min(whole.end, begin + room)
            divided[-1].append(replace(whole, begin=begin, end=end))
            room -= end - begin
            begin = end
    return divided


def read(
    ranges: list[Range], columns: Columns, fail_on_data_loss: bool
) -> Iterator[pa.RecordBatch]:
    """Read ranges one after the other, to rows in order of their numbers.

    Raises `DataLoss` where records of them are gone and that is to be an error.
    """
    for one in ranges:
        yield from _read(one, columns, fail_on_data_loss)


def _read(one: Range, columns: Columns, fail_on_data_loss: bool) -> Iterator[pa.RecordBatch]:
    at, patience = one.begin, time.monotonic() + one.access.retry_timeout_s
    place = {"gateway": one.gateway, "stream": one.stream, "epoch": one.epoch}
    wait_s = 0.0
    while at < one.end:
        try:
            answer = _ask(one, at, wait_s)
        except Gone as gone:
            after = min(int(gone.answer.get("earliest", one.end)), one.end)
            after = max(after, at + 1)
            reason = str(gone.answer.get("reason", ""))
            lost(one, at, after, WHY.get(reason, str(gone)), fail_on_data_loss)
            at = after
            continue
        except Refused as refused:
            if one.can_be_refilled and is_refilling(refused):
                if time.monotonic() > patience:
                    raise Unreachable(
                        f"{one.access.url}, a relay, lost its records of stream {one.stream} of "
                        f"gateway {one.gateway}, and is not filled again up to {at} "
                        "(retryTimeout has passed): it needs the gateway for that"
                    ) from refused
                time.sleep(PAUSE_S)
                continue
            if not isinstance(refused, Conflict):
                raise
            lost(one, at, one.end, other_log(refused), fail_on_data_loss)
            return
        after = min(int(answer.headers["ngsi-ferry-next"]), one.end)
        lines = batches.unpack(answer.body, answer.headers.get("content-encoding"))
        if lines.size:
            batch = batches.record_batch(lines, place, _with_seq(columns))
            low, high = batches.lowest_and_highest(batch["seq"])
            if low < at or high >= after:
                raise GatewayError(
                    f"{one.access.url} gave the numbers {low} to {high} of {one.stream} where "
                    f"{at} to {after - 1} were asked for: this is a fault of the gateway"
                )
            yield batch.select(list(columns.names))
        if after > at:
            at, patience = after, time.monotonic() + one.access.retry_timeout_s
        elif time.monotonic() > patience:
            raise Unreachable(
                f"{one.access.url} does not give the records from {at} of {one.stream}, though it "
                f"had them when the batch was planned (retryTimeout has passed)"
            )
        else:
            # It stops, or was restarted and is not ready: nothing was said of a loss.
            wait_s = WAIT_S


def _ask(one: Range, at: int, wait_s: float) -> http.Answer:
    query = {"epoch": one.epoch, "from": at, "until": one.end, "max_bytes": ANSWER_BYTES}
    if wait_s:
        query["wait"] = f"{wait_s:.0f}s"
    return http.request(
        one.access,
        "GET",
        f"{one.path}/records",
        query=query,
        headers={"Accept-Encoding": "zstd"},
        wait_s=wait_s,
    )


def probe(one: Range) -> Gone | None:
    """Tell whether the first number of a range is gone, at the cost of one record."""
    try:
        _ask(replace(one, end=one.begin + 1), one.begin, 0.0)
    except Gone as gone:
        return gone
    except Conflict:
        return None
    return None


def lost(one: Range, begin: int, end: int, why: str, fail_on_data_loss: bool) -> None:
    """Raise `DataLoss` for numbers that are gone, or warn of it."""
    text = (
        f"records {begin} to {end - 1} ({end - begin} numbers) of stream {one.stream} of gateway "
        f"{one.gateway} (epoch {one.epoch}) are gone: {why}. {GO_ON}"
    )
    if fail_on_data_loss:
        raise DataLoss(text)
    log.warning("skipped: %s", text.replace(f" {GO_ON}", ""))


def other_log(conflict: Conflict) -> str:
    """Say why a log is not the one that was read."""
    if conflict.ends_at is not None:
        return (
            f"the stream ends at {conflict.ends_at} now: its gateway was set back to "
            "an earlier state"
        )
    return (
        "the stream has begun anew with another epoch: its gateway was wiped, or restored from a "
        "backup"
    )


def _with_seq(columns: Columns) -> Columns:
    return columns if "seq" in columns.names else replace(columns, names=(*columns.names, "seq"))
