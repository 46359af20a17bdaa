"""Spark reads straight from the box, over a line as bad as there are."""

import http.client
import ssl
import threading
import time

from draining import BACKLOG
from line import Line
from tables import table

# A part of the backlog that such a line takes within a minute or so.
PART = 64 << 10
PATIENCE = 120


class Consumer:
    """Long-polls from where it was, with a new connection after each failure."""

    def __init__(self, namespace, keys):
        self.namespace, self.tls = namespace, ssl.create_default_context(cafile=keys / "ca.pem")
        self.tls.load_cert_chain(keys / "client.pem", keys / "client.key")
        self.at = self.failures = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        self.namespace.enter()
        connection = None
        while not self.over.is_set():
            try:
                connection = connection or http.client.HTTPSConnection("10.77.0.1", 8443, timeout=PATIENCE, context=self.tls)
                path = f"/v1/streams/default/records?from={self.at}&max_bytes={PART}&wait=20s"
                connection.request("GET", path, headers={"Accept-Encoding": "zstd"})
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200, answer.status
                self.at = int(answer.headers["Ngsi-Ferry-Next"])
            except (OSError, http.client.HTTPException, AssertionError):
                self.failures += 1
                connection = None


def direct(bed, seconds, delay, rate, loss, congestion, seed):
    box = bed.gateway(name="10.77.0.1")
    bed.fill(BACKLOG)
    line = Line(bed.here.name, bed.there.name, delay, rate, loss, seed)
    consumer = Consumer(bed.there, bed.disk.path / "data/pki")
    begun = time.monotonic()
    while time.monotonic() - begun < seconds and consumer.at < BACKLOG:
        time.sleep(5)
        print(f"{congestion}, direct: {time.monotonic() - begun:.0f} s: {consumer.at:,} records, {line.bytes[0]:,} bytes up", flush=True)
    took, (up, down) = time.monotonic() - begun, line.bytes
    consumer.over.set()
    line.cut()
    assert box.is_alive()
    return [congestion, f"{consumer.at:,}", f"{consumer.at / took:.1f}", f"{up / max(consumer.at, 1):,.0f}",
            f"{down / max(consumer.at, 1):,.0f}", f"{up * 8 / took / rate:.0%}", consumer.failures]


def direct_table(rows):
    return table(["congestion control", "records", "records/s", "bytes up a record", "bytes down a record", "of the line in use", "broken connections"], rows)
