"""A query into Orion that is killed again and again: each write is applied once.

`NGSI_FERRY_SPARK_ROWS` rows (2,000), `NGSI_FERRY_SPARK_ROUNDS` blows (4), and
`NGSI_FERRY_SEED` for what chance decides.
"""

from __future__ import annotations

import collections
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import until
from line import Line
from orion import Orion

ROWS = int(os.environ.get("NGSI_FERRY_SPARK_ROWS", "2000"))
ROUNDS = int(os.environ.get("NGSI_FERRY_SPARK_ROUNDS", "4"))
SEED = int(os.environ.get("NGSI_FERRY_SEED", "0")) or random.randrange(1 << 32)
ENTITIES = 20
# Enough of them that a query is alive when its turn to be killed comes.
FILES = max(12, 4 * ROUNDS)
LIFE = "X-LIFE"
DEADLINE_S = 240.0
BLOWS = (
    "between our commit and Spark's",
    "before our commit",
    "the gateway",
    "some time",
)
RELAYED = (
    "before our commit",
    "the relay",
    "the gateway",
    "between our commit and Spark's",
)


class Job:
    """One life of the query: a driver with its JVM and its workers."""

    def __init__(self, folder: Path, life: int, point: str, partitions: int, options) -> None:
        self.point = point
        self.told = folder / f"told-{life}"
        settings = {
            "rows": str(folder / "rows"),
            "checkpoint": str(folder / "checkpoint"),
            "told": str(self.told),
            "point": point,
            "partitions": partitions,
            "options": options,
        }
        file = folder / f"settings-{life}.json"
        file.write_text(json.dumps(settings))
        self.log = folder / f"job-{life}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("writing_job.py"), file],
                env={**os.environ, "PYSPARK_PYTHON": sys.executable},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """kill -9 of the driver, its JVM and what they started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)

    def ended(self) -> bool:
        if self.process.poll() not in (None, 0):
            pytest.fail(f"the job failed:\n{self.log.read_text()[-4000:]}", pytrace=False)
        return self.process.poll() == 0


@pytest.fixture
def orion():
    broker = Orion()
    yield broker
    broker.end()


def make_rows(folder: Path, count: int = ROWS) -> dict[str, list[int]]:
    """Write the rows as files, in order; give each entity's numbers in order."""
    (folder / "rows").mkdir()
    expected = collections.defaultdict(list)
    each = -(-count // FILES)
    for file in range(FILES):
        lines = []
        for number in range(file * each, min(count, (file + 1) * each)):
            # Not by the number's own parity: each entity gets both kinds of writes.
            entity = f"urn:Press:{number // 3 % ENTITIES}"
            expected[entity].append(number)
            lines.append(json.dumps({"id": entity, "number": number}))
        path = folder / "rows" / f"{file:04}.json"
        path.write_text("\n".join(lines) + "\n")
        # Spark takes files by their age.
        os.utime(path, (1_700_000_000 + file, 1_700_000_000 + file))
    return expected


def make_entities(orion: Orion, entities) -> None:
    for entity in entities:
        body = {
            "id": entity,
            "type": "Press",
            "number": {"type": "Number", "value": -1},
            "once": {"type": "StructuredValue", "value": []},
        }
        asked = urllib.request.Request(
            f"{orion.url}/v2/entities",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        urllib.request.urlopen(asked, timeout=30).close()


def batches_done(folder: Path) -> int:
    commits = folder / "checkpoint" / "commits"
    return sum(path.name.isdigit() for path in commits.iterdir()) if commits.exists() else 0


def life_of(gateway) -> int:
    return int(gateway.settings[f"ORION__HEADERS__{LIFE}"])


def revive(gateway) -> None:
    gateway.kill()
    # A relay writes to no Orion.
    if f"ORION__HEADERS__{LIFE}" in gateway.settings:
        gateway.settings[f"ORION__HEADERS__{LIFE}"] = str(life_of(gateway) + 1)
    gateway.start()


def strike(blow: str, job: Job, gateway, folder: Path, chance: random.Random, relay=None) -> bool:
    """One blow, once the query is where it is for; false where it ended before."""
    before = batches_done(folder)

    def ready() -> bool:
        if blow in BLOWS[:2]:
            return job.told.exists()
        return batches_done(folder) > before

    until(lambda: ready() or job.ended(), blow, DEADLINE_S)
    if job.ended():
        return False
    if blow == "the gateway":
        # In the middle of a batch and of the replay; the query lives on.
        time.sleep(chance.uniform(0, 0.5))
        revive(gateway)
        return True
    if blow == "the relay":
        time.sleep(chance.uniform(0, 0.5))
        revive(relay)
        return True
    if blow == "some time":
        time.sleep(chance.uniform(0, 1))
    if blow == "before our commit":
        # What was staged is still there afterwards.
        revive(relay or gateway)
    job.kill()
    return True


def dead_letters(gateway) -> list[dict]:
    listed = gateway.command("dead-letters", "list", "--json").splitlines()
    ids = [json.loads(line)["id"] for line in listed]
    return [json.loads(gateway.command("dead-letters", "show", str(one))) for one in ids]


def number_of(body: str) -> tuple[int, bool]:
    """The number that a write brings, and whether it must not be applied twice."""
    attributes = json.loads(body)
    if "number" in attributes:
        return attributes["number"]["value"], False
    return attributes["once"]["value"]["$push"], True


def check(orion: Orion, letters: list[dict], expected: dict[str, list[int]]) -> dict[str, int]:
    """Each write is applied once and in order, or is an ambiguous dead letter."""
    seen = collections.defaultdict(list)
    for one in orion.journal():
        if one["applied"] and one["method"] == "PATCH":
            life = next(value for name, value in one["headers"] if name.upper() == LIFE)
            (entity,) = one["targets"]
            seen[entity].append((*number_of(one["body"]), life))
    ambiguous = set()
    for letter in letters:
        assert letter["reason"].startswith("ambiguous"), letter
        number, once = number_of(letter["request"]["body"])
        assert once, letter
        ambiguous.add(number)
    assert len(ambiguous) == len(letters), "a write is in the dead letters twice"
    repeated = 0
    for entity, numbers in expected.items():
        applied = seen.pop(entity)
        for (first, once, one_life), (second, _, other_life) in zip(applied, applied[1:]):
            assert first <= second, f"{entity}: {first} before {second}"
            if first == second:
                # The gateway's own, after a kill that took Orion's answer.
                assert not once, f"{entity}: {first} is applied twice"
                assert one_life != other_life, f"{entity}: {first} is applied twice in one life"
                repeated += 1
        there = {number for number, *_ in applied}
        missing = set(numbers) - there - ambiguous
        assert not missing, f"{entity}: {sorted(missing)[:5]} and more are lost"
        assert there <= set(numbers), f"{entity}: nobody wrote {there - set(numbers)}"
        pushed = orion.entity(entity)["once"]["value"]
        assert pushed == sorted(set(pushed)), f"{entity}: twice in the list"
    assert not seen, f"nobody wrote to {sorted(seen)}"
    return {"repeated": repeated, "ambiguous": len(ambiguous)}


def test_a_query_killed_between_our_commit_and_sparks_and_elsewhere_applies_each_write_once(
    tmp_path, gateways, orion
):
    expected = make_rows(tmp_path)
    make_entities(orion, expected)
    gateway = gateways(ORION__URL=orion.url, **{f"ORION__HEADERS__{LIFE}": "0"})
    campaign(tmp_path, orion, gateway, gateway.options(), BLOWS)
    end(orion, gateway, expected)


def test_a_query_over_a_relay_that_is_killed_too_applies_each_write_once(tmp_path, relays, orion):
    relay, behind = relays
    uplink = Line(relay.ports["SPARK"])
    expected = make_rows(tmp_path, ROWS // 2)
    make_entities(orion, expected)
    gateway = behind("edge1", uplink.url, ORION__URL=orion.url, **{f"ORION__HEADERS__{LIFE}": "0"})

    def of_gateways(relay) -> list[dict]:
        return json.loads(relay.admin("status")).get("gateways", [])

    until(lambda: of_gateways(relay), "the gateway at its relay")
    options = {**relay.options(), "gateway": "edge1"}
    campaign(tmp_path, orion, gateway, options, RELAYED, relay, uplink)

    def is_pulled() -> bool:
        return all(one["write_backs_waiting"] == 0 for one in of_gateways(relay))

    until(is_pulled, "the gateway has pulled everything", DEADLINE_S)
    end(orion, gateway, expected)


def campaign(folder: Path, orion: Orion, gateway, options, kinds, relay=None, uplink=None) -> None:
    """Run the query to its end, over blows."""
    print(f"\nseed {SEED}")
    chance = random.Random(SEED)
    orion.tell("slow?ms=1")
    blows = collections.Counter()
    life, job = 0, None
    partitions = 1
    for round_ in range(ROUNDS):
        blow = kinds[round_ % len(kinds)]
        # Only a life that was made for it stops at a point of its batch.
        is_alive = job is not None and job.process.poll() is None
        if is_alive and blow in BLOWS[:2] and job.point != blow:
            job.kill()
            is_alive = False
        if not is_alive:
            partitions = chance.choice([n for n in (1, 2, 3, 5) if n != partitions])
            job = Job(folder, life, blow, partitions, options)
            life += 1
        blows[blow] += strike(blow, job, gateway, folder, chance, relay)
        if uplink is not None:
            uplink.cut()
    if job.process.poll() is not None and batches_done(folder) < FILES:
        job = Job(folder, life, "none", 4, options)
    until(job.ended, "the end of the query", DEADLINE_S)
    assert sum(blows.values()) == ROUNDS, f"the query was too short: {blows}"
    print(f"{FILES} batches, {dict(blows)}")


def end(orion: Orion, gateway, expected: dict[str, list[int]]) -> None:
    """Wait for the end of the replay, and see what Orion has."""

    def idle() -> bool:
        return json.loads(gateway.admin("status"))["write_backs"]["waiting"] == 0

    until(idle, "the end of the replay", DEADLINE_S)
    counts = check(orion, dead_letters(gateway), expected)
    rows = sum(len(numbers) for numbers in expected.values())
    print(f"{rows} rows: 0 lost, 0 doubled, {counts}")
