"""Staging, committing and aborting write-backs on a gateway.

A task stages its lines durably under (query, batch, attempt), and hands the
names of its attempts to the driver; the driver commits in one atomic step for
each gateway. A repeat of either is known there and changes nothing.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Optional

from pyspark_ngsi.errors import Forgotten, GatewayError, Gone, OptionError, Refused, Unreachable
from pyspark_ngsi.http import Access, request, segment

log = logging.getLogger("pyspark_ngsi")
# All gateways together: a task's memory does not grow with their number.
BUFFERED_BYTES = 16 << 20
ABORT_TIMEOUT_S = 10.0
PAUSE_S = 1.0
_ROW = re.compile(r"\brow (\d+)\b")

Attempts = dict[Optional[str], list[str]]
"""Names of staged attempts, in order, by gateway (None: the one at the address)."""


class Gateways:
    """The gateways that a job writes to, by name."""

    def __init__(self, accesses: tuple[Access, ...]) -> None:
        self.accesses = accesses
        self._names: dict[str, Access] = {}

    def at(self, gateway: str | None) -> tuple[Access, str]:
        """Give how to reach a gateway, and the path of its write-backs there."""
        if gateway is None:
            if len(self.accesses) > 1:
                raise GatewayError(
                    "with several gateways in url a row must say which one it is for: "
                    'a column or an option "gateway"'
                )
            return self.accesses[0], "/v1/write-backs"
        path = f"/v1/gateways/{segment(gateway)}/write-backs"
        if len(self.accesses) == 1:
            return self.accesses[0], path
        if gateway not in self._names:
            self._look_for(gateway)
        return self._names[gateway], path

    def _look_for(self, gateway: str) -> None:
        """Ask who has it; one that is away matters only where nobody else does."""
        deadline = time.monotonic() + max(access.retry_timeout_s for access in self.accesses)
        while True:
            away: Unreachable | None = None
            for access in self.accesses:
                try:
                    names = _names(dataclasses.replace(access, retry_timeout_s=0.0))
                except Unreachable as error:
                    away = error
                    continue
                self._names.update(dict.fromkeys(names, access))
                if gateway in names:
                    return
            if away is None:
                known = ", ".join(sorted(self._names)) or "none"
                raise GatewayError(
                    f"no address in url is of the gateway {gateway}; there are {known}"
                )
            if time.monotonic() > deadline:
                raise away
            time.sleep(PAUSE_S)


def _names(access: Access) -> list[str]:
    answer = request(access, "GET", "/v1/gateways", query={"right": "write-back"}).json()
    return [gateway["gateway"] for gateway in answer["gateways"]]


class Stage:
    """Stages the lines of one task, in pieces; its memory is bounded."""

    def __init__(
        self,
        gateways: Gateways,
        query: str,
        batch: int,
        partition: int,
        *,
        piece_bytes: int,
        refused: Callable[[str, str], None],
    ) -> None:
        """`refused` is told of lines that the gateway calls no write: line, reason."""
        self.gateways = gateways
        self.under = f"{segment(query)}/{batch}"
        # An attempt of its own for each run of a task: of two that ran at once,
        # or of one that was repeated, only the one whose names arrive counts.
        self.run = f"{partition}-{uuid.uuid4().hex}"
        self.piece_bytes = piece_bytes
        self.refused = refused
        self.staged: Attempts = {}
        self._lines: dict[str | None, list[bytes]] = {}
        self._sizes: dict[str | None, int] = {}
        self._count = 0

    def add(self, gateway: str | None, line: bytes) -> None:
        """Take one line, with its LF."""
        size = self._sizes.get(gateway, 0)
        if size and size + len(line) > self.piece_bytes:
            self._flush(gateway)
        self._lines.setdefault(gateway, []).append(line)
        self._sizes[gateway] = self._sizes.get(gateway, 0) + len(line)
        if sum(self._sizes.values()) > max(BUFFERED_BYTES, self.piece_bytes):
            self._flush(max(self._sizes, key=lambda one: self._sizes[one]))

    def finish(self) -> Attempts:
        """Stage what is left; give the names of all attempts, in order, by gateway."""
        for gateway in list(self._lines):
            self._flush(gateway)
        return self.staged

    def _flush(self, gateway: str | None) -> None:
        lines = self._lines.pop(gateway, [])
        self._sizes.pop(gateway, None)
        if lines:
            self._send(gateway, lines)

    def _send(self, gateway: str | None, lines: list[bytes]) -> None:
        access, path = self.gateways.at(gateway)
        while lines:
            name = f"{self.run}-{self._count}"
            self._count += 1
            try:
                request(access, "PUT", f"{path}/{self.under}/{name}", body=b"".join(lines))
            except Refused as refusal:
                if refusal.status == 413 and len(lines) > 1:
                    half = len(lines) // 2
                    self._send(gateway, lines[:half])
                    lines = lines[half:]
                    continue
                lines = self._without(lines, refusal)
                continue
            self.staged.setdefault(gateway, []).append(name)
            return

    def _without(self, lines: list[bytes], refusal: Refused) -> list[bytes]:
        """Leave out the line that the gateway refused, or raise where it is no single one."""
        at = _ROW.search(str(refusal.answer.get("description", "")))
        place = 0 if refusal.status == 413 else int(at[1]) - 1 if at else -1
        if refusal.status not in (400, 413) or not 0 <= place < len(lines):
            raise refusal
        self.refused(lines[place].decode("utf-8", "replace"), str(refusal))
        return lines[:place] + lines[place + 1 :]


def commit(
    gateways: Gateways, query: str, batch: int, staged: Iterable[Attempts], *, once: bool = False
) -> None:
    """Make what the tasks staged count, in their order, atomically for each gateway.

    A repeat, and a batch that counted before, are answered as done. Raises
    `GatewayError`; the batch can be staged and committed again then. `once`: the
    query ends with it, and the gateway need not remember it for long.
    """
    attempts = _by_gateway(staged)
    for gateway in sorted(attempts, key=lambda name: name or ""):
        access, path = gateways.at(gateway)
        try:
            request(
                access,
                "POST",
                f"{path}/{segment(query)}/{batch}/commit",
                body={"attempts": attempts[gateway], **({"once": True} if once else {})},
            )
        except Forgotten:
            raise
        except Gone as gone:
            raise Gone(
                f"{access.url} does not have (any more) what batch {batch} staged there: it waited "
                "longer for its commit than spark.stage_expiry (24h), or the gateway's store was "
                "wiped. Nothing of the batch was applied there. Start the query again: Spark "
                "repeats the batch",
                gone.status,
                gone.answer,
            ) from None


def abort(gateways: Gateways, query: str, batch: int, staged: Iterable[Attempts]) -> None:
    """Drop what was staged. Never raises: what cannot be dropped now expires there."""
    for gateway in _by_gateway(staged):
        try:
            access, path = gateways.at(gateway)
            quick = min(access.retry_timeout_s, ABORT_TIMEOUT_S)
            access = dataclasses.replace(access, retry_timeout_s=quick)
            request(access, "POST", f"{path}/{segment(query)}/{batch}/abort")
        except (GatewayError, OptionError, OSError) as error:
            log.warning("what batch %s staged is left to expire: %s", batch, error)


def _by_gateway(staged: Iterable[Attempts]) -> Attempts:
    together: Attempts = {}
    for task in staged:
        for gateway, names in task.items():
            together.setdefault(gateway, []).extend(names)
    return together
