"""More and more load on a box with little of everything: what gives way first."""

from load import press
from tables import mib, table

# Bytes of a body, connections, streams, readers of the whole backlog meanwhile.
LOADS = [(600, 1, 1, 0), (600, 16, 1, 0), (600, 64, 1, 0), (600, 256, 1, 0), (600, 512, 1, 0), (600, 2000, 1, 0),
         (4000, 64, 1, 0), (4000, 512, 1, 0), (200_000, 64, 1, 0), (8_000_000, 8, 1, 0), (600, 64, 1, 4), (600, 64, 16, 4), (600, 512, 64, 4)]
HEAD = ["bytes", "connections", "streams", "readers", "answers/s", "p50 ms", "p99 ms", "slowest ms", "503", "none in 10 s",
        "own memory MiB", "most resident MiB", "killed for memory"]


def rising(bed, seconds):
    box = bed.gateway()
    rows = []
    for body_bytes, connections, streams, readers in LOADS:
        with bed.readers(readers, streams):
            seen = press(bed.here, connections, seconds, body_bytes, streams=streams)
        row = [f"{body_bytes:,}", f"{connections:,}", streams, readers]
        if not box.is_alive():
            rows.append([*row, "the gateway ended", *[""] * 7, bed.limits.out_of_memory()])
            break
        anonymous, most = box.resident()
        rows.append([*row, f"{seen['rate']:,.0f}", f"{seen['p50']:,.0f}", f"{seen['p99']:,.0f}", f"{seen['slowest']:,.0f}",
                     seen["refused"], seen["late"] + seen["errors"], mib(anonymous), mib(most), bed.limits.out_of_memory()])
        print(rows[-1], flush=True)
    return table(HEAD, rows)
