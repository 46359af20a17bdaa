"""Several gateways in one job, some of them slow or away."""

from __future__ import annotations

import threading
import time

import pytest

from pyspark_ngsi import fleet, write_stage
from pyspark_ngsi.errors import GatewayError, Unreachable
from pyspark_ngsi.fleet import Epoch, Fleet, Stream
from pyspark_ngsi.http import Access

FAST, SLOW = (Access.from_options({"url": f"https://{name}:8443"})[0] for name in ("fast", "slow"))


def test_a_run_that_reads_what_there_is_waits_for_the_slow_gateway_too(monkeypatch):
    asked, answers = threading.Event(), threading.Event()

    def ask(access, _names):
        if access.url == SLOW.url:
            asked.set()
            answers.wait(30)
        name = access.url.partition("//")[2].partition(":")[0]
        stream = Stream(access, name, "press", Epoch("e", 0, 10))
        return {stream.key: stream}

    monkeypatch.setattr(fleet, "ask", ask)
    monkeypatch.setattr(fleet, "PATIENCE_S", 0.01)
    gateways = Fleet((FAST, SLOW), ("press",))
    try:
        # A batch that can be followed by others does not wait.
        assert set(gateways.look()) == {"fast/press"}
        assert asked.wait(30)
        timer = threading.Timer(0.5, answers.set)
        timer.start()
        assert set(gateways.look(everyone=True)) == {"fast/press", "slow/press"}
    finally:
        answers.set()
        gateways.stop()


def test_writing_to_one_gateway_needs_no_other(monkeypatch):
    def names(access):
        assert access.retry_timeout_s == 0, "one that is away is not waited for"
        if access.url == SLOW.url:
            raise Unreachable("away")
        return ["edge1"]

    monkeypatch.setattr(write_stage, "_names", names)
    monkeypatch.setattr(write_stage, "PAUSE_S", 0.01)
    gateways = write_stage.Gateways((SLOW, FAST))
    assert gateways.at("edge1") == (FAST, "/v1/gateways/edge1/write-backs")
    impatient = [Access.from_options({"url": a.url, "retryTimeout": "1s"})[0] for a in (SLOW, FAST)]
    begun = time.monotonic()
    with pytest.raises(Unreachable, match="away"):
        write_stage.Gateways(tuple(impatient)).at("edge2")
    assert time.monotonic() - begun >= 1
    with pytest.raises(GatewayError, match="there are edge1"):
        write_stage.Gateways((FAST, FAST)).at("edge2")
