"""The options of a job that reads, checked when the query is made."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union

from pyspark_ngsi.errors import OptionError
from pyspark_ngsi.http import Access, seconds
from pyspark_ngsi.schema import Columns, flag

DEFAULT_PARTITIONS = 4
DEFAULT_KEEP_ALIVE_S = 10.0
# What a job's author may have misspelt is told; these go to other parts.
KNOWN = {
    *("url", "cafile", "certfile", "keyfile", "tokenfile", "retrytimeout"),
    *("stream", "consumer", "startingoffsets", "endingoffsets", "maxrecordspertrigger"),
    *("maxbytespertrigger", "partitions", "failondataloss", "raw", "body", "columns", "keepalive"),
}
_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6}

Point = Union[str, int, tuple[str, int]]
"""Where reading begins or ends: `earliest`, `latest`, a number, or (epoch, number)."""


@dataclass(frozen=True)
class Points:
    """`startingOffsets` or `endingOffsets`: one for all, or for each gateway or stream."""

    for_all: Point
    by_name: tuple[tuple[str, Point], ...] = ()
    """By `gateway` or `gateway/stream`."""

    def of(self, gateway: str, stream: str) -> Point:
        """Give the point of one stream."""
        named = dict(self.by_name)
        return named.get(f"{gateway}/{stream}", named.get(gateway, self.for_all))


@dataclass(frozen=True)
class ReadOptions:
    """What a job asked for; small and picklable."""

    accesses: tuple[Access, ...]
    streams: tuple[str, ...]
    columns: Columns
    starting: Points
    ending: Points
    consumer: str | None = None
    max_records: int | None = None
    max_bytes: int | None = None
    """Bytes as the gateway stores them."""
    partitions: int = DEFAULT_PARTITIONS
    fail_on_data_loss: bool = True
    keep_alive_s: float = DEFAULT_KEEP_ALIVE_S

    @staticmethod
    def from_options(given: Mapping[str, str]) -> ReadOptions:
        """Read and check the options; names in any case. Raises `OptionError`."""
        options = {name.lower(): value for name, value in given.items()}
        unknown = sorted(set(options) - KNOWN - {"path"})
        if unknown:
            raise OptionError(f"there are no options {', '.join(unknown)} for reading")
        streams = tuple(s.strip() for s in options.get("stream", "").split(",") if s.strip())
        if not streams:
            raise OptionError(
                'the option "stream" is missing: .option("stream", "press"), as in '
                "/notify/press; several with commas"
            )
        consumer = options.get("consumer")
        if consumer is not None and not re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", consumer):
            raise OptionError(
                f'"{consumer}" is no name of a consumer: 1 to 128 of A-Z a-z 0-9 . _ : -'
            )
        accesses = tuple(Access.from_options(options))
        if len({access.url for access in accesses}) != len(accesses):
            raise OptionError('the option "url" names a gateway twice')
        return ReadOptions(
            accesses,
            streams,
            Columns.from_options(options),
            _points("startingOffsets", options, "earliest"),
            _points("endingOffsets", options, "latest"),
            consumer,
            _number("maxRecordsPerTrigger", options),
            _size("maxBytesPerTrigger", options),
            _number("partitions", options) or DEFAULT_PARTITIONS,
            flag(options, "failOnDataLoss", True),
            seconds(options.get("keepalive", str(DEFAULT_KEEP_ALIVE_S))),
        )

    def for_streaming(self) -> ReadOptions:
        """Check what only a stream needs."""
        if self.consumer is None:
            raise OptionError(
                'the option "consumer" is missing: a name for this query, such as "model-1". '
                "The gateway keeps its records until this consumer has processed them. Each "
                "query has its own, and keeps it as it keeps its checkpoint"
            )
        return self


def _points(name: str, options: Mapping[str, str], default: str) -> Points:
    text = options.get(name.lower(), default).strip()
    if text in ("earliest", "latest"):
        return Points(text)
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise OptionError(
            f'the option "{name}" is earliest, latest, or JSON such as '
            f'{{"edge1/press": 1000, "edge2": "latest"}}, not "{text}"'
        )
    points = {key: _point(name, key, value) for key, value in document.items()}
    return Points(points.pop("*", default), tuple(sorted(points.items())))


def _point(name: str, key: str, value: Any) -> Point:
    if value in ("earliest", "latest"):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, dict) and isinstance(value.get("epoch"), str):
        seq = value.get("seq")
        if isinstance(seq, int) and seq >= 0:
            return (value["epoch"], seq)
    raise OptionError(
        f'in the option "{name}", {key} is earliest, latest, a number, or '
        f'{{"epoch": "…", "seq": 1000}}, not {json.dumps(value)}'
    )


def _number(name: str, options: Mapping[str, str]) -> int | None:
    text = options.get(name.lower())
    if text is None:
        return None
    if not text.strip().isdigit() or int(text) == 0:
        raise OptionError(f'the option "{name}" is a number above 0, not "{text}"')
    return int(text)


def _size(name: str, options: Mapping[str, str]) -> int | None:
    text = options.get(name.lower())
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].lower() not in _UNITS or int(match[1]) == 0:
        raise OptionError(f'the option "{name}" is a size such as 64MiB, not "{text}"')
    return int(match[1]) * _UNITS[match[2].lower()]
