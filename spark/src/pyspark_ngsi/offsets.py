"""Offsets: where a query is in each stream, as Spark's checkpoint keeps it.

`{"v": 1, "lease": TOKEN, "streams": {"edge1/press": {"epoch": E, "seq": N}}}`:
everything below N of the log E is processed. An end offset says by itself what
its batch holds, whatever has happened to the gateways since:

- the same epoch as at the start: the numbers from there to `seq`;
- a stream that the start does not have, or another epoch: `from` to `seq`;
- lower than the start (a stream that lost its end): nothing.

Where Spark does not tell the start (before 4.2), the first offset of a driver is
`blind`: it has `from` for every stream, and the logs before this one in `earlier`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pyspark_ngsi.errors import GatewayError
from pyspark_ngsi.fleet import Epoch, Stream
from pyspark_ngsi.options import Points


@dataclass(frozen=True)
class Place:
    """Where a query is in one stream."""

    epoch: str
    seq: int
    begin: int | None = None
    """Where its range begins if the start is not in this epoch."""
    earlier: tuple[Epoch, ...] | None = None
    """Only of a blind offset: the logs before this one."""
    new: int | None = None
    """Only of a blind offset: where a stream begins that the start does not have, if that
    is in this epoch."""

    def document(self) -> dict[str, Any]:
        """Give it as JSON."""
        made: dict[str, Any] = {"epoch": self.epoch, "seq": self.seq}
        if self.begin is not None:
            made["from"] = self.begin
        if self.earlier is not None:
            made["earlier"] = [[e.epoch, e.earliest, e.next] for e in self.earlier]
        if self.new is not None:
            made["new"] = self.new
        return made


@dataclass(frozen=True)
class Offset:
    """Where a query is in all streams, and who runs it."""

    lease: str
    places: Mapping[str, Place]

    @staticmethod
    def read(document: Mapping[str, Any]) -> Offset:
        """Read what Spark kept."""
        if document.get("v") != 1:
            raise GatewayError(
                "the checkpoint is of another source or of a newer pyspark-ngsi: use the "
                "version that wrote it, or a new checkpoint"
            )
        places = {
            key: Place(
                told["epoch"],
                told["seq"],
                told.get("from"),
                tuple(Epoch(*e) for e in told["earlier"]) if "earlier" in told else None,
                told.get("new"),
            )
            for key, told in document["streams"].items()
        }
        return Offset(document["lease"], places)

    def document(self) -> dict[str, Any]:
        """Give it as JSON; the same offset is always the same text."""
        streams = {key: self.places[key].document() for key in sorted(self.places)}
        return {"v": 1, "lease": self.lease, "streams": streams}


NOTHING = Offset("", {})
"""Before the first batch; a constant, for Spark asks again after a crash."""


@dataclass(frozen=True)
class Span:
    """Numbers of one epoch of a stream: from `begin`, below `end`."""

    key: str
    epoch: str
    begin: int
    end: int


def without_holes(span: Span, log: Epoch) -> list[Span]:
    """Cut numbers that no record has out of a span of a log."""
    parts, at = [], span.begin
    for begin, until in log.holes:
        if until > at and begin < span.end:
            parts.append(replace(span, begin=at, end=max(at, begin)))
            at = until
    parts.append(replace(span, begin=at))
    return [part for part in parts if part.begin < part.end]


def spans(start: Offset, end: Offset) -> list[Span]:
    """Give what a batch holds."""
    held: list[Span] = []
    for key in sorted(end.places):
        to, at = end.places[key], start.places.get(key)
        if at is not None and at.epoch == to.epoch:
            held.append(Span(key, to.epoch, at.seq, to.seq))
            continue
        if at is None and to.new is not None:
            held.append(Span(key, to.epoch, to.new, to.seq))
            continue
        logs = list(to.earlier or ())
        known = [log.epoch for log in logs]
        if at is not None:
            # What the start has processed is no part; of a log that is gone, nothing is left.
            logs = logs[known.index(at.epoch) :] if at.epoch in known else []
            if logs:
                logs[0] = replace(logs[0], earliest=at.seq)
        held += [Span(key, log.epoch, log.earliest, log.next) for log in logs]
        held.append(Span(key, to.epoch, to.begin if to.begin is not None else to.seq, to.seq))
    return [span for span in held if span.begin < span.end]


@dataclass(frozen=True)
class Step:
    """How far one stream may go at most in the next batch."""

    key: str
    place: Place
    """Where it goes on."""
    log: Epoch
    """Its epoch, as it is now."""
    is_new: bool
    """The start is not in this epoch."""
    bytes_per_record: float = 0.0

    @property
    def available(self) -> int:
        """Records that there are, where holes are known."""
        if self.log.next <= self.place.seq:
            return 0
        holes = (
            min(until, self.log.next) - max(begin, self.place.seq)
            for begin, until in self.log.holes
            if until > self.place.seq
        )
        # Nothing but a hole is passed in a batch too.
        return max(1, self.log.next - self.place.seq - sum(holes))

    def taking(self, records: int) -> Place:
        """Give the place after so many; what is a hole is passed on the way."""
        begin = self.place.seq if self.is_new else None
        if records >= self.available:
            end = max(self.place.seq, self.log.next)
            return Place(self.place.epoch, end, begin)
        end = self.place.seq + records
        for hole, until in self.log.holes:
            if until > self.place.seq and hole <= end:
                end += until - max(hole, self.place.seq)
        return Place(self.place.epoch, min(end, self.log.next), begin)


def beginning(stream: Stream, points: Points) -> Place:
    """Give where a query begins in a stream that it does not know."""
    point = points.of(stream.gateway, stream.name)
    if point == "earliest":
        first = (*stream.earlier, stream.current)[0]
        return Place(first.epoch, first.earliest)
    if point == "latest":
        return Place(stream.current.epoch, stream.current.next)
    if isinstance(point, tuple):
        return Place(*point)
    return Place(stream.current.epoch, int(point))


def blind(stream: Stream, points: Points) -> Place:
    """Give the whole of a stream, to be read from wherever the start turns out to be."""
    begin, current = beginning(stream, points), stream.current
    is_in_current = begin.epoch == current.epoch
    new = min(begin.seq, current.next) if is_in_current else None
    first = current.earliest
    return Place(current.epoch, max(current.next, first), first, stream.earlier, new)


def share(steps: list[Step], limit: int | None, weights: list[float]) -> list[int]:
    """Divide a batch of at most `limit` over streams: nobody waits for another's backlog.

    `weights` is what a record of each stream counts. Gives the records of each; a
    batch goes on with one record at least.
    """
    taken = [step.available for step in steps]
    if limit is None:
        return taken
    left, waiting = float(limit), sorted(range(len(steps)), key=lambda i: taken[i] * weights[i])
    while waiting:
        part = left / len(waiting)
        smallest = waiting.pop(0)
        weight = weights[smallest]
        if weight > 0:
            taken[smallest] = min(taken[smallest], int(part / weight))
        left -= taken[smallest] * weight
    if not any(taken):
        taken = [min(1, step.available) for step in steps]
    return taken
