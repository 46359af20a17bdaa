"""How much disk and flash a notification takes, by its size and by how many come.

How many come decides how many share a commit, and so how they pack, and how
often the device is written to: each rate is measured as it comes. Below about 10
a second each notification has a commit of its own; what those take on the disk
is measured over many segments, one after the other as fast as they go.
"""

import argparse
import http.client
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bed import Bed
from notification import notification
from tables import table

# store.gather, notifications a second, and at how many that is measured.
PLANS = (("0s", 0.1, 1), ("0s", 1, 1), ("0s", 10, 10), ("0s", 100, 100), ("1s", 10, 10), ("1s", 100, 100))
SIZES = (600, 4000)
# Erasing a cell of TLC flash so often wears it out.
CYCLES = 3000
SENDERS = 32


class Senders:
    """Sends at random moments, so many a second, whether answers come or not."""

    def __init__(self, namespace, size, rate, seconds, least):
        self.namespace, self.size = namespace, size
        self.local, self.lock, self.chance = threading.local(), threading.Lock(), random.Random(size)
        self.acknowledged = self.bytes = 0
        alone = rate is None
        with ThreadPoolExecutor(1 if alone else SENDERS, initializer=namespace.enter) as pool:
            begun = at = time.monotonic()
            while self.acknowledged < least if alone else at < begun + seconds:
                if alone:
                    pool.submit(self._send).result()
                    continue
                at += self.chance.expovariate(rate)
                time.sleep(max(0, at - time.monotonic()))
                pool.submit(self._send)

    def _send(self):
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPConnection("127.0.0.1", 8061, timeout=60)
        with self.lock:
            body = notification(self.chance, self.size).encode()
        self.local.connection.request("POST", "/notify", body, {"Content-Type": "application/json", "Fiware-Service": "plant1"})
        answer = self.local.connection.getresponse()
        answer.read()
        if answer.status == 204:
            with self.lock:
                self.acknowledged += 1
                self.bytes += len(body)


def measure(asked, size, rate, gather):
    """Bytes on the disk and to the device for each, and how many shared a commit."""
    with Bed(asked.binary, Path(asked.folder).resolve(), 256 << 20, 1, 512, "reno") as bed:
        box = bed.gateway(more=f'[store]\ngather = "{gather}"\n')
        bed.disk.sync()
        before = bed.disk.written()
        senders = Senders(bed.here, size, rate, asked.seconds, asked.least)
        bed.disk.sync()
        written = bed.disk.written() - before
        metrics = box.metrics()
        count = senders.acknowledged
        commits = metrics['store_commit_seconds_count{log="default"}']
        # As it is kept: a sealed segment has no room left in it.
        box.end()
        print(f"{size} bytes, {rate or 'one after the other'}, {gather}: {count:,} sent", flush=True)
        kept = sum(path.stat().st_size for path in (bed.disk.path / "data/streams/default/segments").rglob("*") if path.is_file())
        return senders.bytes / count, kept / count, written / count, count / commits


def days(per_record, rate):
    return 1e9 / (per_record * rate * 86_400)


def years(per_record, rate, gigabytes):
    return gigabytes * 1e9 * CYCLES / (per_record * rate * 86_400 * 365)


def short(value):
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default="target/release/ngsi-ferry")
    parser.add_argument("--folder", default="target", help="where the disks' images are kept")
    parser.add_argument("--seconds", type=int, default=60, help="of each rate that is measured as it comes")
    parser.add_argument("--least", type=int, default=20_000, help="notifications that are sent one after the other")
    parser.add_argument("--gigabytes", type=int, default=8, help="of the card")
    asked = parser.parse_args()
    rows = []
    for size in SIZES:
        alone = measure(asked, size, None, "0s")
        for gather, rate, measured in PLANS:
            body, kept, written, together = measure(asked, size, measured, gather)
            # Too few to fill a segment.
            kept = kept if rate >= 100 else alone[1]
            rows.append([f"{body:,.0f}", rate, f"`{gather}`", f"{together:.1f}", f"{kept:,.0f}", short(days(kept, rate)), f"{written / 1000:.1f}",
                         short(written * rate * 86_400 / 1e6), short(years(written, rate, asked.gigabytes))])
    head = ["bytes", "a second", "`store.gather`", "in a commit", "bytes on the disk each", "days of outage in 1 GB", "kB to the device each",
            "MB to the device a day", f"years of {asked.gigabytes} GB with {CYCLES:,} cycles"]
    print(table(head, rows))


if __name__ == "__main__":
    main()
