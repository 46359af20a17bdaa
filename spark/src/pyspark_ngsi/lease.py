"""The consumer of a query: whose it is, and how far its records may be forgotten.

A query holds the consumer by a token of its own, made anew for each start of its
driver and kept in every offset of the checkpoint: started anew from there, it
names the token before and takes over at once. Anybody else is refused for as long
as the holder is heard of.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pyspark_ngsi.errors import ConsumerTaken, GatewayError, Refused, Unreachable
from pyspark_ngsi.fleet import Stream, hold

log = logging.getLogger("pyspark_ngsi")
# Nobody's: a query that ends gives its consumer this token, which each may take over.
RELEASED = "released"
# While a query starts or ends, one that does not answer is left to the thread, or to expiry.
SHORT_S = 2.0
PAUSE_S = 1.0


@dataclass
class _Held:
    """A consumer of one log of a stream."""

    stream: Stream
    epoch: str
    position: int
    is_claimed: bool = False
    """The gateway has heard of this lease."""
    told: int = -1
    """Position that the gateway has."""
    is_past: bool = False
    """The query has gone on to the stream's next log."""


class Keeper:
    """Holds the consumer `name` on all streams of a query. For the driver only."""

    def __init__(self, name: str, token: str, keep_alive_s: float) -> None:
        self._name, self._token, self._keep_alive_s = name, token, keep_alive_s
        self._earlier_tokens: set[str] = {RELEASED}
        self._held: dict[tuple[str, str], _Held] = {}
        self._taken: ConsumerTaken | None = None
        self._wakes = threading.Condition()
        self._is_sending = threading.Lock()
        self._news = 0
        self._sent = 0
        self._ends = False
        self._thread: threading.Thread | None = None

    def check(self) -> None:
        """Raise `ConsumerTaken` where another query has the consumer by now."""
        if self._taken is not None:
            raise self._taken

    def holds(self, stream: str, epoch: str) -> bool:
        """Tell whether the consumer of a log is asked for already."""
        return (stream, epoch) in self._held

    def claim(self, places: Iterable[tuple[Stream, str, int]], tokens: Iterable[str]) -> None:
        """Take the consumer of these logs, from whoever has one of `tokens`.

        Places are stream, epoch and position. A gateway that is away is asked again
        later. Where somebody else holds it, waits until they have been silent for as
        long as the gateway demands. Raises `ConsumerTaken` where they are alive.
        """
        self._earlier_tokens.update(token for token in tokens if token)
        for stream, epoch, position in places:
            held = _Held(stream, epoch, position)
            self._put_patiently(held)
            with self._wakes:
                self._held.setdefault((stream.key, epoch), held)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ngsi lease", daemon=True)
            self._thread.start()

    def acknowledge(self, stream: str, epoch: str, position: int) -> None:
        """Tell the gateway, soon, that everything below `position` is processed."""
        with self._wakes:
            held = self._held.get((stream, epoch))
            if held is None or position <= held.position:
                return
            held.position = position
            for (name, other), past in self._held.items():
                past.is_past = past.is_past or (name == stream and other != epoch)
            self._news += 1
            self._wakes.notify_all()

    def flush(self, timeout_s: float) -> None:
        """Wait until what is acknowledged is told, but no longer than this."""
        end = time.monotonic() + timeout_s
        with self._wakes:
            wanted = self._news
            while self._sent < wanted and (left := end - time.monotonic()) > 0:
                self._wakes.wait(left)

    def release(self) -> None:
        """End: tell the last positions, and let anybody have the consumer."""
        self.flush(SHORT_S)
        with self._wakes:
            self._ends = True
            self._wakes.notify_all()
        if self._taken is not None or not self._is_sending.acquire(timeout=SHORT_S):
            return
        end = time.monotonic() + SHORT_S
        for held in self._held.values():
            if held.is_claimed and not held.is_past and time.monotonic() < end:
                try:
                    self._put(held, RELEASED, [self._token], 0.0)
                except GatewayError as error:
                    log.info("the consumer %s is left to expire: %s", self._name, error)
        self._is_sending.release()

    def _run(self) -> None:
        while True:
            with self._wakes:
                if not self._ends and self._sent == self._news:
                    self._wakes.wait(self._keep_alive_s)
                if self._ends:
                    return
                news, keeps = self._news, self._sent == self._news
                work = list(self._held.values())
            with self._is_sending:
                for held in work:
                    # Without news each is sent, so that it is heard of.
                    wants = held.position != held.told or not held.is_claimed
                    if self._ends or not (wants or (keeps and not held.is_past)):
                        continue
                    self._send(held)
            with self._wakes:
                self._sent = news
                self._wakes.notify_all()

    def _send(self, held: _Held) -> None:
        try:
            self._put(held, self._token, sorted(self._earlier_tokens), 0.0)
        except Unreachable as error:
            log.info("the consumer %s is told later: %s", self._name, error)
        except Refused as refused:
            if refused.answer.get("error") == "Leased":
                self._taken = self._taken or self._taken_by_another(held, refused)
            elif refused.status not in (404, 409):
                log.warning("the consumer %s could not be moved: %s", self._name, refused)
        except GatewayError as error:
            log.warning("the consumer %s could not be moved: %s", self._name, error)

    def _put_patiently(self, held: _Held) -> None:
        before: float | None = None
        silent_until = 0.0
        while True:
            try:
                self._put(held, self._token, sorted(self._earlier_tokens), SHORT_S)
                return
            except Unreachable as error:
                log.warning("the consumer %s is asked for later: %s", self._name, error)
                return
            except Refused as refused:
                if refused.answer.get("error") != "Leased":
                    if refused.status in (404, 409):
                        return  # another log: reading tells of it
                    raise
                left = float(refused.answer.get("expires_in", 0))
                # Heard of since the first answer, or it would be free by now.
                lives = before is not None and (left > before or time.monotonic() > silent_until)
                if lives:
                    raise self._taken_by_another(held, refused) from refused
                if before is None:
                    silent_until = time.monotonic() + left + PAUSE_S
                    log.warning(
                        "another query has the consumer %s: waiting up to %.0f s to see whether "
                        "it still runs",
                        self._name,
                        left,
                    )
                before = left
            time.sleep(PAUSE_S)

    def _put(self, held: _Held, token: str, takes_over: list[str], retry_s: float) -> None:
        body = {
            "epoch": held.epoch,
            "position": held.position,
            "lease": token,
            "takes_over": takes_over,
        }
        access = replace(held.stream.access, retry_timeout_s=retry_s)
        held.told = hold(access, held.stream.path, self._name, body, held.stream.is_replica)
        held.is_claimed = True

    def _taken_by_another(self, held: _Held, refused: Refused) -> ConsumerTaken:
        return ConsumerTaken(
            f'the consumer "{self._name}" of stream {held.stream.name} of gateway '
            f"{held.stream.gateway} belongs to another running query (one with another "
            "checkpoint, or a later start of this one). Two queries cannot share a consumer: each "
            "would take away what the other has not read. Give this one a name of its own, "
            '.option("consumer", "…"), or stop the other query first'
        )
