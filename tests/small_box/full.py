"""The small disk is filled: the oldest go, counted, and the intake goes on."""

from load import Witness, press
from tables import mib, table


def full(bed, seconds):
    """At least so many seconds after the disk is full."""
    box = bed.gateway()
    begun = bed.disk.written()
    acknowledged = refused = after = 0
    while after < seconds:
        seen = press(bed.here, 64, 10, 8000, fresh=True)
        acknowledged += seen["acknowledged"]
        refused += seen["refused"]
        evicted = box.metrics().get('store_evicted_records_total{log="default"}', 0)
        after += 10 if evicted else 0
        print(f"{acknowledged:,} acknowledged, {refused} refused, {evicted:,.0f} evicted, {mib(bed.disk.free())} MiB free", flush=True)
    metrics = box.metrics()
    kept = metrics['store_records{log="default"}']
    # What is new is never what goes.
    begin = next(stream for stream in box.status()["streams"] if stream["name"] == "default")["next"]
    witness = Witness(bed.here, "default", 20)
    press(bed.here, 8, 5, 8000, fresh=True)
    witness.stop()
    started = bed.killed_and_started()
    bodies = set(bed.bodies("default", begin))
    missing = [body for body in witness.acknowledged if body not in bodies]
    assert not missing, f"{len(missing)} of {len(witness.acknowledged)} are missing"
    rows = [["acknowledged", f"{acknowledged:,}"], ["refused (503)", refused], ["kept", f"{kept:,.0f}"],
            ["evicted, counted", f"{evicted:,.0f}"],
            ["acknowledged, neither kept nor counted", f"{max(0, acknowledged - kept - evicted):,.0f}"],
            ["bytes that the stream takes", f"{mib(metrics['store_bytes{log=%sdefault%s}' % (chr(34), chr(34))])} MiB"],
            ["free on the disk", f"{mib(bed.disk.free())} MiB"],
            ["bytes to the device a byte of body", f"{(bed.disk.written() - begun) / (8000 * acknowledged):.2f}"],
            ["ready after kill -9, on it", f"{started:.1f} s"], ["killed for memory", bed.limits.out_of_memory()]]
    return table(["a full disk of 512 MB", ""], rows)
