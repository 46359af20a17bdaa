"""A backlog goes up to the relay over a line as bad as there are."""

import time

from line import Line
from load import Witness
from tables import table

BACKLOG = 10_000


def draining(bed, seconds, delay, rate, loss, congestion, seed, more):
    box = bed.gateway(uplink=True, more=more)
    bed.fill(BACKLOG)
    relay = bed.relay(congestion)
    witness = Witness(bed.here, "default", 1)
    line = Line(bed.here.name, bed.there.name, delay, rate, loss, seed)
    begun, first = time.monotonic(), None
    while time.monotonic() - begun < seconds:
        time.sleep(5)
        sent = box.metrics().get("uplink_sent_records_total", 0)
        if sent and first is None:
            first = time.monotonic() - begun
        print(f"{congestion}: {time.monotonic() - begun:.0f} s: {sent:,.0f} records, {line.bytes[0]:,} bytes up, "
              f"{line.packets[0]} packets, {line.lost[0]} lost, {line.full[0]} for want of room", flush=True)
        if sent >= BACKLOG:
            break
    took = time.monotonic() - begun
    up, down = line.bytes
    witness.stop()
    box_log, restarts = bed.trouble(box), int(not box.is_alive())
    # The line is mended: everything is there in the end, and once.
    line.delay, line.rate, line.loss = 0.005, 100_000_000, 0.0
    bed.relay_has_everything(box, witness)
    line.cut()
    return [congestion, f"{delay * 2:g} s", f"{loss:.0%}", f"{first or 0:.0f} s", f"{sent:,.0f}", f"{sent / took:.1f}",
            f"{up / sent:,.0f}" if sent else "-", f"{down / sent:,.0f}" if sent else "-",
            f"{up * 8 / took / rate:.0%}", box_log, restarts, bed.limits.out_of_memory()]


HEAD = ["congestion control", "round trip", "loss each way", "first record", "records", "records/s", "bytes up a record", "bytes down a record",
        "of the line in use", "broken requests", "restarts", "killed for memory"]


def draining_table(rows):
    return table(HEAD, rows)
