"""Reading a range of a stream: in executors, the same whenever it is read again."""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyspark_ngsi import fleet
from pyspark_ngsi.connector.events import NotAnEvent, body_of, event_of
from pyspark_ngsi.errors import DataLoss, GatewayError, Gone, Refused
from pyspark_ngsi.http import Access, Answer, request, segment

MAX_BYTES = 4 << 20
PAUSE_S = 0.5
_log = logging.getLogger("pyspark_ngsi.connector")


@dataclass(frozen=True)
class Stream:
    """One stream of one gateway, in one epoch of it."""

    access: Access
    gateway: str | None
    """Whose stream, on a relay; none for the gateway's own."""
    name: str
    epoch: str | None = None

    @property
    def path(self) -> str:
        """Its path in the gateway's API."""
        prefix = f"/v1/gateways/{segment(self.gateway)}" if self.gateway else "/v1"
        return f"{prefix}/streams/{segment(self.name)}"

    def is_refilling(self, refused: Refused) -> bool:
        """Tell whether a relay that lost its records refuses: it is filled again."""
        return self.gateway is not None and fleet.is_refilling(refused)


def records(
    stream: Stream, start: int, until: int, fail_on_data_loss: bool
) -> Iterator[dict[str, Any]]:
    """Give the records `start` to `until - 1`, as the API's lines have them.

    Raises `DataLoss` where some of them are gone, unless that is allowed; then
    it is logged.
    """
    at, patience = start, time.monotonic() + stream.access.retry_timeout_s
    while at < until:
        query = {"epoch": stream.epoch, "from": at, "until": until, "max_bytes": MAX_BYTES}
        try:
            answer = request(
                stream.access,
                "GET",
                f"{stream.path}/records",
                query=query,
                headers={"Accept-Encoding": "zstd"} if _can_unpack() else None,
            )
        except Gone as gone:
            earliest = min(int(gone.answer.get("earliest", until)), until)
            text = (
                f"records {at} to {earliest - 1} of stream {stream.name} are gone "
                f"({gone.answer.get('reason')}) before this job had them"
            )
            if fail_on_data_loss or earliest <= at:
                raise DataLoss(
                    f"{text}; set RECV_SINGLETON.fail_on_data_loss = False to go on without "
                    "them, and give the stream more room (store.max_bytes)"
                ) from gone
            _log.warning(text)
            at = earliest
            continue
        except Refused as refused:
            if not stream.is_refilling(refused) or time.monotonic() > patience:
                raise
            time.sleep(PAUSE_S)
            continue
        for line in _lines(answer):
            yield json.loads(line)
        reached = int(answer.headers["ngsi-ferry-next"])
        if reached > at:
            at, patience = reached, time.monotonic() + stream.access.retry_timeout_s
        elif time.monotonic() > patience:
            raise GatewayError(
                f"{stream.access.url} gives no more of stream {stream.name} from {at} on"
            )
        else:
            # It stops, was restarted and is not ready, or is a relay that is filled again.
            time.sleep(PAUSE_S)


@functools.cache
def _can_unpack() -> bool:
    """Without zstd the records take more of the line, and are the same.

    A pyarrow that is newer than PySpark 3.5's NumPy cannot be imported.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        _log.warning("records come unpacked, for pyarrow cannot be used: %s", error)
        return False
    return True


def _lines(answer: Answer) -> list[bytes]:
    body, encoding = answer.body, answer.headers.get("content-encoding")
    if encoding == "zstd":
        # Not above: it needs pyarrow.
        from pyspark_ngsi.batches import unpack

        body = unpack(body, encoding).to_pybytes()
    # Not splitlines: there are more ends of lines in Unicode.
    return [line for line in body.split(b"\n") if line]


def events(
    stream: Stream, start: int, until: int, fail_on_data_loss: bool, is_complete: bool
) -> Iterator[Any]:
    """Give the events of a range, or where not `is_complete` the bodies as text.

    What no event can be made of is left out, and logged with its numbers.
    """
    left_out: list[int] = []
    for record in records(stream, start, until, fail_on_data_loss):
        if not is_complete:
            yield body_of(record).decode("utf-8", "replace")
            continue
        try:
            event = event_of(record)
        except NotAnEvent as reason:
            left_out.append(record["seq"])
            if len(left_out) == 1:
                _log.warning("stream %s, record %s: %s", stream.name, record["seq"], reason)
        else:
            yield event
    if left_out:
        _log.warning(
            "stream %s: %s notifications from %s to %s are no events and were left out",
            stream.name,
            len(left_out),
            left_out[0],
            left_out[-1],
        )
