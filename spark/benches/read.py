"""What reading costs: format("ngsi") next to Spark's own ways to read lines from a socket.

    python benches/read.py [--records 1200000] [--rate 5000] [--check]

Fills a gateway with Orion's notifications (the same bytes go to all readers), and
lets each reader count them in a Spark of its own, twice: a backlog, all of it there
from the start; and a steady rate, with a batch a second. format("ngsi") takes the
backlog in `--batches`, of which the first, with the query's start in it, is not
measured: two by default, so that one holds all that is measured, as it does where
`maxRecordsPerTrigger` is not set. Prints CPU seconds for a
million records (the JVM and all Python processes, once they are warm), throughput,
ratios, and the latency of format("ngsi"). `--check` ends with 1 where a threshold
is missed. Needs `NGSI_FERRY_BIN` or a release build.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import feed
import workers

PYTHON = {"PYTHONPATH": str(feed.ROOT / "spark" / "src"), "PYSPARK_PYTHON": sys.executable}
READERS = (
    "ngsi raw",
    "ngsi entities",
    "socketTextStream",
    "socketTextStream; json.loads",
    "socket",
)
# CPU seconds for a million records of a backlog, at most.
LIMITS = {"ngsi raw": 22.0, "ngsi entities": 30.0}
# How many times the CPU seconds of raw records each takes at least.
RATIOS = {"socketTextStream": 2.5, "socketTextStream; json.loads": 5.0, "socket": 5.0}
# Batches until Java has compiled what it runs most.
WARM_UP_BATCHES = 30
# format("socket") takes five times as long as the others: it gets a part.
SOCKET_PART = 4
LATENCY_RATE = 1000


def spawn(what: str, task: dict[str, Any]) -> dict[str, Any]:
    """Run this program again for one reader: each has a Spark of its own."""
    with tempfile.NamedTemporaryFile() as told:
        worker = subprocess.Popen(
            [sys.executable, __file__, "--worker", what, "--task", json.dumps(task)],
            env={**os.environ, **PYTHON, "RESULT": told.name},
            stdout=subprocess.DEVNULL,
            stderr=None if os.environ.get("VERBOSE") else subprocess.DEVNULL,
            start_new_session=True,
        )
        ended = worker.wait(2 * workers.PATIENCE_S)
        # Processes of Spark's may outlive it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        if ended != 0:
            sys.exit(f"{what} ended with {ended}; VERBOSE=1 shows why")
        return json.loads(Path(told.name).read_text())


class Bench:
    """A filled gateway, its lines, and what was measured on them."""

    def __init__(self, gateway: Any, records: int) -> None:
        self.gateway = gateway
        feed.fill(gateway, records)
        feed.hold(gateway)
        self.lines = feed.lines_of(gateway)
        assert len(self.lines) == records, len(self.lines)
        self.options = {**gateway.options(), "stream": feed.STREAM}
        size = sum(map(len, self.lines)) / records
        print(f"{records} records, {size:.0f} bytes a line", flush=True)

    def measure(self, reader: str, records: int, most: int, rate: int | None) -> dict[str, float]:
        """Let one reader count so many records; at a rate, or as a backlog."""
        if reader == "socket":
            records //= SOCKET_PART
        warm_up = min(records, 120_000) if rate is None else rate * 10
        is_warm = self.gateway.folder / f"warm {reader} {rate}"
        port = feed.serve(self.lines[:records], warm_up, WARM_UP_BATCHES, is_warm, rate)
        task = {
            "options": self.options,
            "port": port,
            "is_warm": str(is_warm),
            "warm_up": warm_up,
            "slices": WARM_UP_BATCHES,
            "most": most,
            "trigger": None if rate is None else "1 second",
            # The sockets' readers have counted those of the warm-up too.
            "records": records + (0 if reader.startswith("ngsi") else warm_up),
        }
        result = spawn(reader, task)
        return {
            "cpu": result["cpu"] / result["measured"] * 1e6,
            "rate": result["measured"] / result["seconds"],
        }

    def backlog(self, readers: list[str], batches: int, rounds: int) -> list[str]:
        """Print the table of a backlog, medians; gives what missed its threshold."""
        # In turn: what else the machine does is the same for all of them.
        seen: dict[str, list[dict[str, float]]] = {reader: [] for reader in readers}
        for _ in range(rounds):
            for reader in readers:
                result = self.measure(reader, len(self.lines), len(self.lines) // batches, None)
                seen[reader].append(result)
                print(f"{reader}: {result['cpu']:.1f}, {result['rate']:,.0f}/s", flush=True)
        print("\n| A backlog | CPU s per million | records/s | CPU next to raw |")
        print("|---|---|---|---|")
        cpu: dict[str, float] = {}
        missed = []
        for reader in readers:
            cpu[reader] = statistics.median(one["cpu"] for one in seen[reader])
            rate = statistics.median(one["rate"] for one in seen[reader])
            ratio = cpu[reader] / cpu.get("ngsi raw", float("nan"))
            if ratio < RATIOS.get(reader, 0) or cpu[reader] > LIMITS.get(reader, float("inf")):
                missed.append(reader)
            print(
                f"| {reader} | {cpu[reader]:.1f} | {rate:,.0f} | {ratio:.1f} |",
                flush=True,
            )
        return missed

    def steady(self, readers: list[str], rate: int, seconds: int) -> None:
        """Print the table of a steady rate."""
        print(f"\n| {rate} a second, a batch a second | CPU s per million |")
        print("|---|---|")
        for reader in readers:
            records = min(rate * seconds, len(self.lines))
            result = self.measure(reader, records, rate, rate)
            print(f"| {reader} | {result['cpu']:.1f} |", flush=True)

    def latency(self, seconds: int) -> None:
        """Print how old notifications are when a batch's code has them."""
        stop = threading.Event()
        feed.notify_steadily(self.gateway, LATENCY_RATE, stop)
        task = {"options": self.options, "slices": WARM_UP_BATCHES, "seconds": seconds}
        seen = spawn("latency", task)
        stop.set()
        print(
            f"\nLatency at {LATENCY_RATE} a second, {seen['batches']} batches: "
            f"{seen['mean']:.0f} ms mean; the oldest of a batch {seen['median_oldest']:.0f} ms "
            f"at the median, {seen['worst']:.0f} ms at worst"
        )


def main() -> int:
    """Run all readers; prints tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_200_000)
    parser.add_argument("--batches", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1, help="of a backlog; medians are told")
    parser.add_argument("--rate", type=int, default=5_000, help="0: no steady rate")
    parser.add_argument("--seconds", type=int, default=60, help="of the steady rate and latency")
    parser.add_argument("--readers", default=",".join(READERS))
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--worker")
    parser.add_argument("--task")
    arguments = parser.parse_args()
    if arguments.worker:
        run = workers.latency if arguments.worker == "latency" else workers.read
        measured = run(arguments.worker, json.loads(arguments.task))
        Path(os.environ["RESULT"]).write_text(json.dumps(measured))
        os._exit(0)
    readers = arguments.readers.split(",")
    with tempfile.TemporaryDirectory() as folder:
        gateway = feed.conftest.Gateway(Path(folder), ID="edge1").start()
        try:
            bench = Bench(gateway, arguments.records)
            missed = bench.backlog(readers, arguments.batches, arguments.rounds)
            if arguments.rate:
                bench.steady(readers, arguments.rate, arguments.seconds)
            if arguments.seconds:
                bench.latency(arguments.seconds)
        finally:
            gateway.kill()
    print("\nmissed: " + ", ".join(missed) if missed else "\nevery threshold is met")
    return 1 if missed and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
