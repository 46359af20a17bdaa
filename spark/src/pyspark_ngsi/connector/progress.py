"""On the driver: which range each interval gets, and what is acknowledged."""

from __future__ import annotations

import hashlib
import json
import logging
import socket
import sys
import threading
import time
from dataclasses import replace

from pyspark_ngsi.connector.reading import Stream
from pyspark_ngsi.errors import Conflict, DataLoss, GatewayError, Refused
from pyspark_ngsi.http import request, segment

# Well below the gateway's lease_expiry, a minute by default.
SIGN_OF_LIFE_S = 15.0
_log = logging.getLogger("pyspark_ngsi.connector")


class Progress:
    """The ranges of a job: taken one after the other, acknowledged in their order.

    A range is `(from, until)`. What was not acknowledged when a job ends comes
    again to the next one of the same consumer.
    """

    def __init__(self, stream: Stream, consumer: str, max_records: int, fails: bool) -> None:
        self._stream = stream
        self._consumer = consumer
        self._max_records = max_records
        self._fail_on_data_loss = fails
        self._token = _token(stream, consumer)
        self._condition = threading.Condition()
        self._ranges: dict[int, tuple[int, int]] = {}
        self._completed: set[int] = set()
        self._next: int | None = None
        self._acknowledged: int | None = None
        self._broken: GatewayError | None = None
        self._thread: threading.Thread | None = None

    def __reduce__(self) -> tuple[object, ...]:
        # Spark writes it down where a job has checkpoints, and reads it never:
        # a DStream like this cannot be recovered from them.
        return (
            Progress,
            (self._stream, self._consumer, self._max_records, self._fail_on_data_loss),
        )

    @property
    def stream(self) -> Stream:
        """The stream, with its epoch once that is known."""
        return self._stream

    def range_of(self, batch_ms: int) -> tuple[int, int]:
        """Give the range of the batch of that time; always the same for the same."""
        with self._condition:
            if self._broken is not None:
                raise self._broken
            if batch_ms not in self._ranges:
                self._ranges[batch_ms] = self._take()
            return self._ranges[batch_ms]

    def _take(self) -> tuple[int, int]:
        try:
            status = request(self._stream.access, "GET", self._stream.path).json()
        except Refused as error:
            if error.status != 404:
                raise
            # It is made by its first notification.
            return (0, 0)
        if self._next is None:
            self._begin(status)
        elif status["epoch"] != self._stream.epoch:
            raise GatewayError(
                f"stream {self._stream.name} of {self._stream.access.url} was wiped or restored: "
                "start the job anew, and it begins at what is there now"
            )
        start = self._next or 0
        until = min(status["next"], start + self._max_records)
        self._next = until
        return (start, until)

    def _begin(self, status: dict) -> None:
        self._stream = replace(self._stream, epoch=status["epoch"])
        consumers = {one["name"]: one for one in status["consumers"]}
        known = consumers.get(self._consumer)
        start = known["position"] if known else status["earliest"]
        if start < status["earliest"] and status["evicted"]["until"] > start:
            text = (
                f"records {start} to {status['earliest'] - 1} of stream {self._stream.name} were "
                "evicted before this job had them"
            )
            if self._fail_on_data_loss:
                raise DataLoss(
                    f"{text}; set RECV_SINGLETON.fail_on_data_loss = False to go on without them"
                )
            _log.warning(text)
        self._next = self._acknowledged = max(start, status["earliest"])
        self._hold()
        self._thread = threading.Thread(target=self._acknowledge, daemon=True)
        self._thread.start()

    def _hold(self) -> None:
        """Register the consumer for this job alone; waits for another one's lease."""
        while True:
            try:
                self._put(self._acknowledged or 0)
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

    def _put(self, position: int) -> None:
        body = {"epoch": self._stream.epoch, "position": position, "lease": self._token}
        path = f"{self._stream.path}/consumers/{segment(self._consumer)}"
        request(self._stream.access, "PUT", path, body=body)

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

    def _due(self) -> int | None:
        """Give the end of what is completed without a gap, where that has moved."""
        end = None
        for batch_ms in sorted(self._ranges):
            if batch_ms not in self._completed:
                break
            end = self._ranges.pop(batch_ms)[1]
            self._completed.discard(batch_ms)
        return end

    def _acknowledge(self) -> None:
        while True:
            with self._condition:
                end = self._due()
                if end is None:
                    self._condition.wait(SIGN_OF_LIFE_S)
                    end = self._due()
                if end is not None:
                    self._acknowledged = max(end, self._acknowledged or 0)
                position = self._acknowledged or 0
            try:
                self._put(position)
            except GatewayError as error:
                if isinstance(error, Refused):
                    with self._condition:
                        self._broken = error
                    return
                # It is away; what was completed stays completed.
                _log.warning("not acknowledged yet: %s", error)


def _token(stream: Stream, consumer: str) -> str:
    """Name a job: the same one on the same machine need not wait when it is started anew."""
    told = [socket.gethostname(), sys.argv[:1], stream.access.url, stream.name, consumer]
    return "connector-" + hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]
