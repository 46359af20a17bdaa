"""Behind a relay: it is wiped or restored, or a gateway of it begins anew."""

from __future__ import annotations

import shutil

import pytest
from conftest import until
from test_exactly_once import ends
from test_reading import HAS_LIMITS, fill, finish, seqs, stream

from pyspark_ngsi import http, write_stage
from pyspark_ngsi.connector import progress, reading
from pyspark_ngsi.connector.progress import Progress
from pyspark_ngsi.connector.reading import Stream, records
from pyspark_ngsi.errors import Conflict
from pyspark_ngsi.http import Access, Answer

PRESS = "/v1/gateways/edge1/streams/press"


def access_of(gateway) -> Access:
    return Access.from_options(gateway.options())[0]


@pytest.fixture
def relay_and_edge(relays):
    relay, behind = relays
    edge = behind("edge1", relay.url)
    fill(edge, 10)
    until(lambda: there(relay) == 10, "ten records at the relay")
    return relay, edge


def state(relay) -> dict:
    return http.request(access_of(relay), "GET", PRESS).json()


def there(relay) -> int:
    """Give where the stream ends on the relay; 0 before there is one."""
    return ends(relay).get("edge1/press", 0)


def restore(relay, backup) -> None:
    """Put a relay's earlier state in the place of what it has, while it is stopped."""
    shutil.rmtree(relay.data_dir)
    shutil.copytree(backup, relay.data_dir)


def wipe(edge) -> None:
    edge.stop()
    shutil.rmtree(edge.data_dir / "streams")
    edge.start()


@pytest.mark.skipif(not HAS_LIMITS, reason="before 4.2 a query that starts is not told its place")
def test_a_relay_that_lost_records_is_waited_for_and_nothing_is_lost_or_comes_twice(
    spark, relay_and_edge, tmp_path, request
):
    relay, edge = relay_and_edge
    relay.stop()
    backup = tmp_path / "backup"
    shutil.copytree(relay.data_dir, backup)
    relay.start()
    finish(stream(spark, relay, tmp_path))
    fill(edge, 10)
    until(lambda: there(relay) == 20, "twenty records at the relay")
    finish(stream(spark, relay, tmp_path))
    # Nothing may fill it again before the query has seen it.
    edge.stop()
    relay.stop()
    restore(relay, backup)
    relay.start()
    query = stream(spark, relay, tmp_path, {"processingTime": "0 seconds"})
    request.addfinalizer(query.stop)
    until(lambda: query.lastProgress or query.exception(), "the query's look at the relay")
    assert query.exception() is None, query.exception()
    edge.start()
    fill(edge, 5)
    end = http.request(access_of(edge), "GET", "/v1/streams/press").json()["next"]
    until(lambda: there(relay) == end, "the relay is filled again")
    until(lambda: len(seqs(spark, tmp_path)) == 25 or query.exception(), "all that is new")
    assert query.exception() is None, query.exception()
    query.stop()
    read = [seq for _, seq in seqs(spark, tmp_path)]
    assert read == [*range(20), *range(end - 5, end)]


@pytest.mark.skipif(not HAS_LIMITS, reason="before 4.2 the last batch is acknowledged a run later")
def test_a_log_that_was_read_to_its_end_is_no_loss_once_the_relay_has_removed_it(
    spark, relay_and_edge, tmp_path
):
    relay, edge = relay_and_edge
    finish(stream(spark, relay, tmp_path))
    before = state(relay)["epoch"]
    wipe(edge)
    fill(edge, 4)
    until(
        lambda: any(one["epoch"] == before for one in state(relay).get("removed", ())),
        "the earlier replica is removed",
    )
    finish(stream(spark, relay, tmp_path))
    assert [seq for _, seq in seqs(spark, tmp_path)] == sorted([*range(10), *range(4)])


class Counted:
    """A function that knows how often it was called."""

    def __init__(self, function) -> None:
        self.calls, self._function = 0, function

    def __call__(self, *arguments):
        self.calls += 1
        return self._function(*arguments)


def numbers(job: Progress, batch: int) -> list[tuple[str, int]]:
    """Read the range of a batch, and tell that it is processed."""
    taken = job.range_of(batch)
    read = records(taken.stream, taken.begin, taken.end, True)
    got = [(taken.stream.epoch, one["seq"]) for one in read]
    job.completed(batch, None)
    return got


def test_a_job_over_prime_reads_what_is_left_of_a_gateway_before_what_it_has_begun_anew(
    relay_and_edge, monkeypatch
):
    monkeypatch.setattr(progress, "SIGN_OF_LIFE_S", 0.1)
    relay, edge = relay_and_edge

    def job() -> Progress:
        return Progress(Stream(access_of(relay), "edge1", "press"), "job", 6, True)

    first, before = job(), state(relay)["epoch"]
    assert numbers(first, 1) == [(before, seq) for seq in range(6)]
    until(
        lambda: [one["position"] for one in state(relay)["consumers"]] == [6],
        "the first range is acknowledged",
    )
    wipe(edge)
    fill(edge, 4)
    until(lambda: state(relay)["epoch"] != before and there(relay) == 4, "the new beginning")
    after = state(relay)["epoch"]
    taken = job().range_of(1)
    assert (taken.stream.epoch, taken.begin, taken.end) == (before, 6, 10)
    assert numbers(first, 2) == [(before, seq) for seq in range(6, 10)]
    until(
        lambda: any(one["epoch"] == before for one in state(relay).get("removed", ())),
        "the earlier replica is removed",
    )
    # Signs of life for a log that is not there any more do no harm.
    signs = Counted(progress.end_of)
    monkeypatch.setattr(progress, "end_of", signs)
    until(lambda: signs.calls > 1, "signs of life after that")
    assert numbers(first, 3) == [(after, seq) for seq in range(4)]
    assert numbers(first, 4) == []
    until(
        lambda: [one["position"] for one in state(relay)["consumers"]] == [4],
        "the new log is acknowledged",
    )
    fill(edge, 1)
    until(lambda: there(relay) == 5, "one more")
    assert numbers(first, 5) == [(after, 4)]


def test_a_task_of_prime_waits_for_a_relay_that_is_filled_again(monkeypatch):
    def answer(records: range, reached: int) -> Answer:
        lines = b"".join(b'{"seq":%d}\n' % seq for seq in records)
        return Answer(200, {"ngsi-ferry-next": str(reached)}, lines)

    answers = iter(
        [
            Conflict("", 409, {"error": "BeyondEnd", "next": 2}),
            answer(range(3, 5), 5),
            answer(range(0), 5),
            answer(range(5, 9), 9),
        ]
    )

    def request(*_, **__):
        told = next(answers)
        if isinstance(told, Conflict):
            raise told
        return told

    monkeypatch.setattr(reading, "request", request)
    monkeypatch.setattr(reading, "PAUSE_S", 0.01)
    access = Access.from_options({"url": "https://relay:8443"})[0]
    read = records(Stream(access, "edge1", "press", "e"), 3, 9, True)
    assert [one["seq"] for one in read] == list(range(3, 9))


def test_who_may_only_write_back_finds_the_gateway_among_several(gateways):
    only_writes = {"CLIENT__0__NAME": "*", "CLIENT__0__ALLOW": '["write-back"]'}
    edges = [gateways(name, ID=name, **only_writes) for name in ("edge1", "edge2")]
    found = write_stage.Gateways(tuple(access_of(edge) for edge in edges))
    assert found.at("edge2") == (access_of(edges[1]), "/v1/gateways/edge2/write-backs")
