"""What the gateways of a job have: asked all at once, so that none holds up the others."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pyspark_ngsi import http
from pyspark_ngsi.errors import Conflict, GatewayError, OptionError, Refused, Unreachable
from pyspark_ngsi.http import Access

log = logging.getLogger("pyspark_ngsi")
# One that answers is not made to wait longer for those that do not.
PATIENCE_S = 1.0
PAUSE_S = 0.2


@dataclass(frozen=True)
class Epoch:
    """One log of a stream; a gateway that was wiped has begun another."""

    epoch: str
    earliest: int
    next: int
    """The number that its next record gets."""
    holes: tuple[tuple[int, int], ...] = ()
    """Numbers that no record has, from and below, in order: a gateway that was killed
    goes on some way above."""


@dataclass(frozen=True)
class Stream:
    """A stream as its gateway or relay told of it."""

    access: Access
    gateway: str
    name: str
    current: Epoch
    earlier: tuple[Epoch, ...] = ()
    """Logs before the current one of which a relay still has records, oldest first."""
    bytes_per_record: float = 0.0
    """As they are stored; 0 where nothing is."""
    is_replica: bool = False
    """A relay tells of it: where that was wiped, it is filled again by its gateway."""
    is_unheard: bool = False
    """A replica, and its gateway has said nothing since the relay's start."""

    @property
    def key(self) -> str:
        """Its name among the streams of all gateways."""
        return f"{self.gateway}/{self.name}"

    @property
    def path(self) -> str:
        """Its path in the API."""
        return f"/v1/gateways/{http.segment(self.gateway)}/streams/{http.segment(self.name)}"


def ask(access: Access, streams: Iterable[str]) -> dict[str, Stream]:
    """Ask one gateway or relay for the streams of these names."""
    names = set(streams)
    query = {"stream": next(iter(names))} if len(names) == 1 else None
    listed = http.request(access, "GET", "/v1/gateways", query=query).json()
    found = [
        _stream(access, gateway, told)
        for gateway in listed["gateways"]
        for told in gateway["streams"]
        if told["name"] in names
    ]
    return {stream.key: stream for stream in found}


def end_of(access: Access, path: str, epoch: str) -> int | None:
    """Ask where a log that is no more among a stream's ended; None where nobody knows."""
    with contextlib.suppress(Refused):
        told = http.request(access, "GET", path, query={"epoch": epoch}).json()
        if told.get("epoch") == epoch:
            return int(told["next"])
    with contextlib.suppress(Refused):
        # Not even empty: a relay remembers those that it has removed.
        removed = http.request(access, "GET", path).json().get("removed", ())
        return next((int(one["next"]) for one in removed if one["epoch"] == epoch), None)
    return None


def is_refilling(refused: Refused) -> bool:
    """Tell whether a relay's answer is that of one that was wiped and is filled again."""
    is_short = isinstance(refused, Conflict) and refused.ends_at is not None
    return is_short or refused.status == 404


def hold(
    access: Access, path: str, consumer: str, body: Mapping[str, Any], is_replica: bool
) -> int:
    """Tell the position of a consumer, `body["position"]`; gives the one that was taken.

    A relay that lost records has less: its end is taken then, so that what it is
    filled with again is kept for the consumer.
    """
    path = f"{path}/consumers/{http.segment(consumer)}"
    try:
        http.request(access, "PUT", path, body=body)
    except Conflict as conflict:
        end = conflict.ends_at
        if end is None or not is_replica:
            raise
        http.request(access, "PUT", path, body={**body, "position": end})
        return end
    return int(body["position"])


def _stream(access: Access, gateway: Mapping[str, Any], told: Mapping[str, Any]) -> Stream:
    earlier = (Epoch(e["epoch"], e["earliest"], e["next"]) for e in told.get("earlier", ()))
    records = told.get("records", 0)
    # What was lost is no hole here: reading tells of it.
    unused = [hole for hole in told.get("holes", ()) if hole["reason"] == "unused"]
    holes = tuple(sorted((hole["from"], hole["until"]) for hole in unused))
    return Stream(
        access,
        gateway["gateway"],
        told["name"],
        Epoch(told["epoch"], told["earliest"], told["next"], holes),
        tuple(earlier),
        told.get("bytes", 0) / records if records else 0.0,
        is_replica="heard_seconds" in gateway,
        is_unheard=gateway.get("heard_seconds", 0) is None,
    )


class Fleet:
    """All urls of a job, each with a thread that asks it. For the driver only."""

    def __init__(self, accesses: Iterable[Access], streams: Iterable[str]) -> None:
        self._news = threading.Condition()
        self._streams: dict[str, Stream] = {}
        self._watchers = [_Watcher(access, tuple(streams), self._news) for access in accesses]
        self._retry_timeout_s = max(w.access.retry_timeout_s for w in self._watchers)

    @property
    def known(self) -> Mapping[str, Stream]:
        """All streams that were ever told of, as they were last told."""
        return self._streams

    def look(self, everyone: bool = False) -> dict[str, Stream]:
        """Ask all, and give the streams of those that answered.

        Whoever is slower than the others by `PATIENCE_S` is in the next look; where
        that would be too late, `everyone` waits until each has answered or failed.

        Raises `Unreachable` where none did for `retryTimeout`, and whatever else a
        gateway refuses with.
        """
        deadline = time.monotonic() + self._retry_timeout_s
        while True:
            answers = self._round(everyone)
            if answers:
                break
            if time.monotonic() > deadline:
                raise self._none_answered()
            time.sleep(PAUSE_S)
        found: dict[str, Stream] = {}
        for streams in answers:
            for key, stream in streams.items():
                if key in found:
                    raise OptionError(
                        f"{found[key].access.url} and {stream.access.url} both have {key}: give "
                        "one url for a gateway, and gateways different ids"
                    )
                found[key] = stream
        self._streams.update(found)
        return found

    def stop(self) -> None:
        """End the threads; a request under way ends with its time-out."""
        for watcher in self._watchers:
            watcher.ends = True
        with self._news:
            self._news.notify_all()

    def _round(self, everyone: bool) -> list[dict[str, Stream]]:
        with self._news:
            for watcher in self._watchers:
                # An answer that came late is not asked for again, but told of now.
                if watcher.answer is None and not watcher.is_asked:
                    watcher.is_asked, watcher.waited_for = True, True
                    if not watcher.is_alive():
                        watcher.start()
                watcher.waited_for |= everyone
            self._news.notify_all()
            until: float | None = None
            while any(watcher.is_asked and watcher.waited_for for watcher in self._watchers):
                is_one_here = any(watcher.answer is not None for watcher in self._watchers)
                if until is None and is_one_here and not everyone:
                    until = time.monotonic() + PATIENCE_S
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._news.wait(left)
            answers = []
            for watcher in self._watchers:
                # Who is late once is not waited for again until it answers.
                watcher.waited_for = False
                if watcher.error is not None and not isinstance(watcher.error, Unreachable):
                    raise watcher.error
                if watcher.answer is not None:
                    answers.append(watcher.answer)
                    watcher.answer = None
            return answers

    def _none_answered(self) -> Unreachable:
        problems = [str(watcher.error) for watcher in self._watchers if watcher.error]
        return Unreachable(
            f"none of the job's gateways could be used for {self._retry_timeout_s:.0f} s: "
            + ("; ".join(problems) or "none has answered yet")
        )


class _Watcher(threading.Thread):
    def __init__(self, access: Access, streams: tuple[str, ...], news: threading.Condition) -> None:
        super().__init__(name=f"ngsi {access.url}", daemon=True)
        self.access = access
        self.is_asked = False
        self.waited_for = False
        self.ends = False
        self.answer: dict[str, Stream] | None = None
        self.error: GatewayError | None = None
        self._streams, self._news = streams, news

    def run(self) -> None:
        # One try: whether to try again is decided for all of them.
        once = replace(self.access, retry_timeout_s=0.0)
        is_away = False
        while True:
            with self._news:
                while not self.is_asked and not self.ends:
                    self._news.wait()
            if self.ends:
                return
            answer, error = None, None
            try:
                answer = {
                    key: replace(stream, access=self.access)
                    for key, stream in ask(once, self._streams).items()
                }
            except GatewayError as failed:
                error = failed
            except Exception as failed:  # an answer that is no answer of ours
                error = GatewayError(f"{self.access.url} is no gateway of ngsi-ferry: {failed!r}")
            if (error is not None) != is_away:
                is_away = error is not None
                text = f"is away, its streams wait: {error}" if is_away else "is back"
                log.warning("%s %s", self.access.url, text)
            with self._news:
                self.answer, self.error, self.is_asked = answer, error, False
                self._news.notify_all()
