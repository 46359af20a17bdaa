"""Switches the machine on and goes through the journey: run.py ARCH IMAGE PACKAGE FOLDER."""

import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path

from box import Box, parcel
from journey import Journey
from machine import Machine
from plant import Plant

OLDER = "0.0.9-1"


def version_of(package):
    return subprocess.run(["dpkg-deb", "-f", package, "Version"], check=True, capture_output=True, text=True).stdout.strip()


def main(arch, image, package, folder):
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    root = folder / "root.img"
    subprocess.run(["cp", "--sparse=always", Path(image) / "root.img", root], check=True)
    control = folder / "control.img"
    control.write_bytes(bytes(1 << 20))
    machine = Machine(arch, image, folder / "run", [root, parcel(package, OLDER, folder), control])
    box = Box(machine)
    is_own = arch == "amd64"
    steps = Journey.STEPS if is_own else Journey.SHORT
    journey = Journey(box, Plant(box.patience), (OLDER, version_of(package)), kills=20 if is_own else 2)
    passed, begun = 0, time.monotonic()
    try:
        for step in steps:
            step_begun = time.monotonic()
            try:
                note = step(journey)
            except Exception:
                traceback.print_exc()
                print(f"FAILED {step.__name__}; what the machine said is in {machine.folder}", flush=True)
                tell(machine)
                break
            passed += 1
            print(f"ok {step.__name__} ({time.monotonic() - step_begun:.0f} s){': ' + note if note else ''}", flush=True)
    finally:
        machine.unplug()
    # Each step goes on where the one before it ended, so that a failure is the last.
    failed = int(passed < len(steps))
    print(f"{time.monotonic() - begun:.0f} s in all, {machine.accelerator}")
    print(f"{passed} passed, {failed} failed" + (f", {len(steps) - passed - 1} skipped" if failed else ""))
    return failed


def tell(machine):
    """What a person would look at first."""
    try:
        print(machine.run("systemctl status --no-pager ngsi-ferry.service ngsi-ferry.socket; journalctl -b --no-pager -n 60")[1])
    except Exception as error:
        print(f"the machine says nothing any more: {error}")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
