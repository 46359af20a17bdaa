"""What reading costs: format("ngsi") next to Spark's own ways to read lines from a socket.

    python benches/read.py [--records 200000] [--latency-seconds 10] [--check]

Fills a gateway with Orion's notifications (the same bytes go to all readers), lets
each reader count them in a Spark of its own, and prints throughput, CPU seconds
for a million records (the JVM and all Python processes, starting Spark apart) and
ratios. `--check` ends with 1 where a threshold is missed. Needs `NGSI_FERRY_BIN`
or a release build.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "spark" / "tests"), str(ROOT / "spark" / "src")]
import conftest  # noqa: E402

PYTHON = {"PYTHONPATH": str(ROOT / "spark" / "src"), "PYSPARK_PYTHON": sys.executable}
STREAM = "press"
HEADERS = {
    "Fiware-Service": "plant1",
    "Fiware-ServicePath": "/line/a",
    "Fiware-Correlator": "32de3d56-e663-11f1-928e-02fc00000001; cbnotif=1",
    "Ngsiv2-AttrsFormat": "normalized",
    "User-Agent": "orion/4.7.0-next libcurl/7.88.1",
}
READERS = (
    "ngsi raw",
    "ngsi entities",
    "socketTextStream",
    "socketTextStream; json.loads",
    "socket",
)
# CPU seconds for a million records, at most.
LIMITS = {"ngsi raw": 22.0, "ngsi entities": 30.0}
# How many times the CPU seconds of ours each takes at least: lines next to lines, and what
# has read the notification next to what has.
RATIOS = {
    "socketTextStream": ("ngsi raw", 2.5),
    "socketTextStream; json.loads": ("ngsi entities", 5.0),
    "socket": ("ngsi raw", 5.0),
}


def body(number: int) -> bytes:
    """Make a notification of about 360 bytes: 570 with the headers that come in its line."""
    attrs = {
        "temperature": {
            "type": "Number",
            "value": number * 0.5,
            "metadata": {"unitCode": {"type": "Text", "value": "CEL"}},
        },
        "pressure": {"type": "Number", "value": number, "metadata": {}},
        "state": {"type": "Text", "value": "running", "metadata": {}},
    }
    entity = {"id": f"urn:Press:{number % 100}", "type": "Press", **attrs}
    document = {"subscriptionId": "5f7d9e1c2a4b6d8e0f1a2b3c", "data": [entity]}
    return json.dumps(document, separators=(",", ":")).encode()


def fill(gateway: conftest.Gateway, records: int) -> None:
    """Post notifications over 16 connections."""
    threads = [
        threading.Thread(
            target=gateway.notify_all,
            args=(STREAM, [body(i) for i in range(k, records, 16)], HEADERS),
        )
        for k in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def lines_of(gateway: conftest.Gateway) -> bytes:
    """Read all stored lines, as the socket readers are given them."""
    from pyspark_ngsi import batches, http
    from pyspark_ngsi.http import Access

    access, held, at = Access.from_options(gateway.options())[0], [], 0
    while True:
        answer = http.request(
            access,
            "GET",
            f"/v1/streams/{STREAM}/records",
            query={"from": at},
            headers={"Accept-Encoding": "zstd"},
        )
        lines = batches.unpack(answer.body, answer.headers.get("content-encoding"))
        if not lines.size:
            return b"".join(held)
        held.append(lines.to_pybytes())
        at = int(answer.headers["ngsi-ferry-next"])


def serve_lines(lines: bytes, warm: Path) -> int:
    """Serve the lines to each client that connects; gives the port.

    A fifth first, and the rest once `warm` is there: a receiver takes whatever it is
    sent, long before it is counted, and that is a part of the cost too.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    fifth = lines.index(b"\n", len(lines) // 5) + 1

    def send(client: socket.socket) -> None:
        client.sendall(lines[:fifth])
        conftest.until(warm.exists, "the reader of the first fifth", 900)
        client.sendall(lines[fifth:])

    def serve() -> None:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=send, args=(client,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def cpu_seconds(pid: int) -> float:
    """Sum user and system time of a process, its descendants, and those that they waited for."""
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
            ticks[int(entry.name)] = sum(int(field) for field in fields[11:15])
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        total += ticks.get(one, 0)
        waiting += children.get(one, [])
    return total / os.sysconf("SC_CLK_TCK")


def worker(reader: str, task: dict) -> dict:
    """Run one reader in this process; gives records, seconds and CPU seconds."""
    from pyspark.sql import SparkSession

    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "1g")
        .config("spark.sql.shuffle.partitions", "2")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    # Spark warm, Python workers there: a query runs for days, its start is not the question.
    spark.range(1000).rdd.map(lambda row: row[0]).count()
    counted = {"records": 0}

    def count(df, _batch) -> None:
        counted["records"] += df.count()

    def stream(source):
        return source.writeStream.foreachBatch(count).start()

    if reader.startswith("ngsi"):
        read = spark.readStream.format("ngsi").options(**task["options"])
        read = read.option("raw", "true") if reader.endswith("raw") else read
        read = read.option("maxRecordsPerTrigger", task["records"] // 10).option("partitions", 2)
        query = stream(read.option("consumer", f"bench-{os.getpid()}").load())
        return steady(counted, task, query)
    if reader == "socket":
        source = spark.readStream.format("socket").option("host", "127.0.0.1")
        query = stream(source.option("port", task["port"]).load())
        return steady(counted, task, query)
    from pyspark.streaming import StreamingContext

    context = StreamingContext(spark.sparkContext, 1)
    received = context.socketTextStream("127.0.0.1", task["port"])
    if reader.endswith("json.loads"):
        received = received.map(lambda line: json.loads(json.loads(line)["body"]))

    def add(rdd) -> None:
        counted["records"] += rdd.count()

    received.foreachRDD(add)
    context.start()
    return steady(counted, task, None)


def steady(counted: dict, task: dict, query) -> dict:
    """Measure from the first fifth on: Spark is warm then, as a query that runs for days is."""
    records = task["records"]
    # Lines of a fifth of the bytes are not quite a fifth of the lines.
    wait(counted, records // 5 - records // 100, query)
    Path(task["warm"]).touch()
    before, used, at = counted["records"], cpu_seconds(os.getpid()), time.monotonic()
    wait(counted, records, query)
    return {
        "records": counted["records"],
        "measured": counted["records"] - before,
        "seconds": time.monotonic() - at,
        "cpu": cpu_seconds(os.getpid()) - used,
    }


def wait(counted: dict, records: int, query) -> None:
    """Wait until so many are counted."""
    end = time.monotonic() + 900
    while counted["records"] < records:
        if query is not None and query.exception() is not None:
            raise query.exception()
        if time.monotonic() > end:
            raise TimeoutError(f"{counted['records']} of {records}")
        time.sleep(0.02)


def latency(task: dict, seconds: int) -> tuple[float, float]:
    """Give mean and worst ms from a notification's storing to its batch's foreachBatch."""
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as f

    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "1g")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    seen: list[tuple[float, float, int]] = []

    def note(df, _batch) -> None:
        times = df.select(f.unix_micros("received").alias("us"))
        row = times.agg(f.avg("us"), f.min("us"), f.count("us")).first()
        if row[2]:
            now = time.time() * 1e6
            seen.append(((now - row[0]) / 1e3, (now - row[1]) / 1e3, row[2]))

    read = spark.readStream.format("ngsi").options(**task["options"])
    read = read.option("consumer", f"latency-{os.getpid()}").option("startingOffsets", "latest")
    query = read.load().writeStream.foreachBatch(note).start()
    time.sleep(seconds + 12)
    query.stop()
    # The first batches warm Spark up.
    seen = seen[5:] or seen
    records = sum(n for _, _, n in seen)
    return sum(m * n for m, _, n in seen) / records, max(w for _, w, _ in seen)


def notify_steadily(gateway: conftest.Gateway, seconds: int, stop: threading.Event) -> None:
    """Post 1,000 notifications a second, on 4 connections."""

    def post(k: int) -> None:
        begun, sent = time.monotonic(), 0
        while not stop.is_set():
            due = int((time.monotonic() - begun) * 250)
            if due > sent:
                gateway.notify_all(STREAM, [body(i) for i in range(sent, due)], HEADERS)
                sent = due
            stop.wait(0.01)

    threads = [threading.Thread(target=post, args=(k,), daemon=True) for k in range(4)]
    for thread in threads:
        thread.start()


def spawn(what: str, task: dict) -> dict:
    """Run this program again for one reader: each has a Spark of its own."""
    with tempfile.NamedTemporaryFile() as told:
        worker = subprocess.Popen(
            [sys.executable, __file__, "--worker", what, "--task", json.dumps(task)],
            env={**os.environ, **PYTHON, "RESULT": told.name},
            stdout=subprocess.DEVNULL,
            stderr=None if os.environ.get("VERBOSE") else subprocess.DEVNULL,
            start_new_session=True,
        )
        ended = worker.wait(1200)
        # Processes of Spark's may outlive it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        if ended != 0:
            sys.exit(f"{what} ended with {ended}; VERBOSE=1 shows why")
        return json.loads(Path(told.name).read_text())


def main() -> int:
    """Run all readers; prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--readers", default=",".join(READERS))
    parser.add_argument("--latency-seconds", type=int, default=10)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--worker")
    parser.add_argument("--task")
    arguments = parser.parse_args()
    if arguments.worker:
        task = json.loads(arguments.task)
        measured = (
            latency(task, task["seconds"])
            if arguments.worker == "latency"
            else worker(arguments.worker, task)
        )
        Path(os.environ["RESULT"]).write_text(json.dumps(measured))
        os._exit(0)
    readers = arguments.readers.split(",")
    with tempfile.TemporaryDirectory() as folder:
        gateway = conftest.Gateway(Path(folder), ID="edge1").start()
        try:
            return measure(gateway, readers, arguments)
        finally:
            gateway.kill()


def measure(gateway: conftest.Gateway, readers: list[str], arguments) -> int:
    """Measure each reader, and the latency."""
    fill(gateway, arguments.records)
    # What one reader has acknowledged must be there for the next.
    from pyspark_ngsi import http

    access = http.Access.from_options(gateway.options())[0]
    held = f"/v1/streams/{STREAM}/consumers/all-readers"
    http.request(access, "PUT", held, body={"position": 0})
    lines = lines_of(gateway)
    per_line = len(lines) / arguments.records
    options = {**gateway.options(), "stream": STREAM}
    print(f"{arguments.records} records, {per_line:.0f} bytes a line\n")
    print("| Reader | CPU s per million | records/s | CPU next to ours |")
    print("|---|---|---|---|")
    cpu: dict[str, float] = {}
    missed = []
    for reader in readers:
        warm = gateway.folder / f"warm {reader}"
        task = {"options": options, "port": serve_lines(lines, warm), "warm": str(warm)}
        result = spawn(reader, {**task, "records": arguments.records})
        assert result["records"] == arguments.records, result
        cpu[reader] = result["cpu"] / result["measured"] * 1e6
        rate = result["measured"] / result["seconds"]
        ours, least = RATIOS.get(reader, (reader, 1.0))
        ratio = cpu[reader] / cpu.get(ours, float("nan"))
        if ratio < least or cpu[reader] > LIMITS.get(reader, float("inf")):
            missed.append(reader)
        next_to = "" if ours == reader else f"{ratio:.1f} times {ours}"
        print(f"| {reader} | {cpu[reader]:.1f} | {rate:,.0f} | {next_to} |", flush=True)
    if arguments.latency_seconds:
        stop = threading.Event()
        notify_steadily(gateway, arguments.latency_seconds, stop)
        mean, worst = spawn("latency", {"options": options, "seconds": arguments.latency_seconds})
        stop.set()
        print(f"\nLatency at 1,000 records/s: {mean:.0f} ms mean, {worst:.0f} ms worst")
    print("\nmissed: " + ", ".join(missed) if missed else "\nevery threshold is met")
    return 1 if missed and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
