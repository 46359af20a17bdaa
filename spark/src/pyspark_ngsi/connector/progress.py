"""On the driver: which range each interval gets, and what is acknowledged."""

from __future__ import annotations

import hashlib
import json
import logging
import socket
import sys
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

from pyspark_ngsi.connector.reading import Stream
from pyspark_ngsi.errors import Conflict, DataLoss, GatewayError, Refused
from pyspark_ngsi.fleet import end_of, hold
from pyspark_ngsi.http import request

# Well below the gateway's lease_expiry, a minute by default.
SIGN_OF_LIFE_S = 15.0
_log = logging.getLogger("pyspark_ngsi.connector")


@dataclass(frozen=True)
class Range:
    """Numbers of one epoch of a stream: from `begin`, below `end`."""

    stream: Stream
    begin: int
    end: int


class Progress:
    """The ranges of a job: taken one after the other, acknowledged in their order.

    What was not acknowledged when a job ends comes again to the next one of the
    same consumer. On a relay, what it has of a gateway that was wiped is read to
    its end before what that gateway has begun anew.
    """

    def __init__(self, stream: Stream, consumer: str, max_records: int, fails: bool) -> None:
        self._stream = stream
        self._consumer = consumer
        self._max_records = max_records
        self._fail_on_data_loss = fails
        self._token = _token(stream, consumer)
        self._condition = threading.Condition()
        self._ranges: dict[int, Range] = {}
        self._completed: set[int] = set()
        self._next: int | None = None
        self._held: dict[str, Range] = {}
        """How far each log is processed that the job reads, by epoch, in their order."""
        self._broken: GatewayError | None = None
        self._thread: threading.Thread | None = None

    def __reduce__(self) -> tuple[object, ...]:
        # Spark writes it down where a job has checkpoints, and reads it never:
        # a DStream like this cannot be recovered from them.
        return (
            Progress,
            (self._stream, self._consumer, self._max_records, self._fail_on_data_loss),
        )

    def range_of(self, batch_ms: int) -> Range:
        """Give the range of the batch of that time; always the same for the same."""
        with self._condition:
            if self._broken is not None:
                raise self._broken
            if batch_ms not in self._ranges:
                self._ranges[batch_ms] = self._take()
            return self._ranges[batch_ms]

    def _take(self) -> Range:
        try:
            status = request(self._stream.access, "GET", self._stream.path).json()
        except Refused as error:
            if error.status != 404:
                raise
            # It is made by its first notification.
            return Range(self._stream, self._next or 0, self._next or 0)
        log = self._log_among([*status.get("earlier", ()), status])
        if log["epoch"] != self._stream.epoch:
            self._begin(log)
        start = self._next or 0
        # A relay that was wiped has less until its gateway has filled it again.
        end = max(start, min(log["next"], start + self._max_records))
        self._next = end
        return Range(self._stream, start, end)

    def _log_among(self, logs: list[dict[str, Any]]) -> dict[str, Any]:
        """Choose the log to read: the same until it is read to its end and another follows."""
        if self._next is None:
            unread = (log for log in logs if self._position(log) < log["next"])
            return next(unread, logs[-1])
        epochs = [log["epoch"] for log in logs]
        if self._stream.epoch in epochs:
            at = epochs.index(self._stream.epoch)
            is_read = logs[at]["next"] <= self._next and at + 1 < len(logs)
            return logs[at + is_read]
        if end_of(self._stream.access, self._stream.path, self._stream.epoch or "") == self._next:
            return logs[0]
        raise GatewayError(
            f"stream {self._stream.name} of {self._stream.access.url} was wiped or restored: "
            "start the job anew, and it begins at what is there now"
        )

    def _position(self, log: dict[str, Any]) -> int:
        """Where the consumer is in a log; its begin where that does not know it."""
        known = (one for one in log["consumers"] if one["name"] == self._consumer)
        one = next(known, None)
        return int(one["position"] if one else log["earliest"])

    def _begin(self, log: dict[str, Any]) -> None:
        start = self._position(log)
        if start < log["earliest"] and log["evicted"]["until"] > start:
            text = (
                f"records {start} to {log['earliest'] - 1} of stream {self._stream.name} were "
                "evicted before this job had them"
            )
            if self._fail_on_data_loss:
                raise DataLoss(
                    f"{text}; set RECV_SINGLETON.fail_on_data_loss = False to go on without them"
                )
            _log.warning(text)
        start = max(start, log["earliest"])
        begin = Range(replace(self._stream, epoch=log["epoch"]), start, start)
        self._hold(begin)
        self._stream, self._next = begin.stream, start
        self._held[log["epoch"]] = begin
        if self._thread is None:
            self._thread = threading.Thread(target=self._acknowledge, daemon=True)
            self._thread.start()

    def _hold(self, begin: Range) -> None:
        """Register the consumer for this job alone; waits for another one's lease."""
        while True:
            try:
                self._put(begin)
                return
            except Conflict as conflict:
                if conflict.answer.get("error") != "Leased":
                    raise
                wait = float(conflict.answer.get("expires_in", 1))
                _log.warning(
                    "another job reads as consumer %s; waiting up to %.0f s for it to be gone",
                    self._consumer,
                    wait,
                )
                time.sleep(min(wait, 5.0))

    def _put(self, done: Range) -> None:
        stream = done.stream
        body = {"epoch": stream.epoch, "position": done.end, "lease": self._token}
        hold(stream.access, stream.path, self._consumer, body, stream.gateway is not None)

    def completed(self, batch_ms: int, failure: str | None) -> None:
        """Note the end of a batch. After a failed one nothing is acknowledged any more."""
        with self._condition:
            if failure is not None:
                _log.error(
                    "a batch failed; it and what follows comes again when the job is "
                    "started anew: %s",
                    failure.splitlines()[0] if failure else "",
                )
                # Its range stays, and holds up all behind it.
                return
            self._completed.add(batch_ms)
            self._condition.notify_all()

    def _note_processed(self) -> bool:
        """Note what is completed without a gap; tells whether that has moved."""
        has_moved = False
        for batch_ms in sorted(self._ranges):
            if batch_ms not in self._completed:
                break
            done = self._ranges.pop(batch_ms)
            self._completed.discard(batch_ms)
            # Before there was a stream there was nothing in a range either.
            if done.stream.epoch is not None:
                self._held[done.stream.epoch] = done
                has_moved = True
        return has_moved

    def _acknowledge(self) -> None:
        while True:
            with self._condition:
                if not self._note_processed():
                    self._condition.wait(SIGN_OF_LIFE_S)
                    self._note_processed()
                held = list(self._held.values())
            try:
                for done in held:
                    self._tell(done)
            except Refused as error:
                with self._condition:
                    self._broken = error
                return
            except GatewayError as error:
                # It is away; what was completed stays completed.
                _log.warning("not acknowledged yet: %s", error)

    def _tell(self, done: Range) -> None:
        """Acknowledge a range, and let go of its log where the job has gone on to another."""
        try:
            self._put(done)
        except Refused as refused:
            if done.stream.is_refilling(refused):
                raise GatewayError(str(refused)) from refused
            # A relay removes what is read to its end.
            if refused.answer.get("error") != "EpochDiffers" or not self._is_used_up(done):
                raise
        with self._condition:
            epoch = done.stream.epoch
            is_read = all(one.stream.epoch != epoch for one in self._ranges.values())
            if is_read and epoch != self._stream.epoch and self._held.get(epoch or "") == done:
                del self._held[epoch or ""]

    def _is_used_up(self, done: Range) -> bool:
        if done.stream.epoch != self._stream.epoch:
            return True
        return end_of(done.stream.access, done.stream.path, done.stream.epoch or "") == done.end


def _token(stream: Stream, consumer: str) -> str:
    """Name a job: the same one on the same machine need not wait when it is started anew."""
    told = [socket.gethostname(), sys.argv[:1], stream.access.url, stream.name, consumer]
    return "connector-" + hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]
