"""A box with little of everything: figures, and nothing lost. See scripts/small-box."""

import argparse
import sys
from pathlib import Path

from bed import Bed
from direct import direct, direct_table
from draining import draining, draining_table
from full import full
from rising import rising


def by_losses():
    """Debian's default where this kernel lets a namespace have it, else its elder."""
    allowed = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control").read_text().split()
    return "cubic" if "cubic" in allowed else "reno"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default="target/release/ngsi-ferry")
    parser.add_argument("--folder", default="target", help="where the disk's image is kept")
    parser.add_argument("--memory", type=int, default=64, help="MiB")
    parser.add_argument("--cores", type=float, default=0.25)
    parser.add_argument("--disk", type=int, default=512, help="MB")
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument("--line-seconds", type=int, default=240, help="of each draining")
    parser.add_argument("--delay", type=float, default=1.0, help="seconds each way")
    parser.add_argument("--rate", type=int, default=256_000, help="bits a second, each way")
    parser.add_argument("--loss", type=float, default=0.2, help="of the packets, each way")
    parser.add_argument("--congestion", nargs="*", default=[by_losses(), "bbr"], help="of TCP")
    parser.add_argument("--uplink", default="", help="settings of [uplink] that differ from the defaults")
    parser.add_argument("--seed", type=int, default=1, help="of the losses")
    parser.add_argument("what", nargs="*", default=["rising", "full", "draining", "direct"])
    asked = parser.parse_args()

    def bed(congestion=by_losses()):
        return Bed(asked.binary, Path(asked.folder).resolve(), asked.memory << 20, asked.cores, asked.disk, congestion)

    tables = []
    if "rising" in asked.what:
        with bed() as place:
            tables.append(rising(place, asked.seconds))
    if "full" in asked.what:
        with bed() as place:
            tables.append(full(place, asked.seconds))
    if "draining" in asked.what:
        rows = []
        for congestion in asked.congestion:
            with bed(congestion) as place:
                rows.append(draining(place, asked.line_seconds, asked.delay, asked.rate, asked.loss, congestion, asked.seed, asked.uplink))
        tables.append(draining_table(rows))
    if "direct" in asked.what:
        rows = []
        for congestion in asked.congestion:
            with bed(congestion) as place:
                rows.append(direct(place, asked.line_seconds, asked.delay, asked.rate, asked.loss, congestion, asked.seed))
        tables.append(direct_table(rows))
    print(f"\n{asked.memory} MiB of memory, {asked.cores} of a core, a disk of {asked.disk} MB, "
          f"a line of {asked.rate / 1000:g} kbit/s\n")
    print("\n\n".join(tables))


if __name__ == "__main__":
    sys.exit(main())
