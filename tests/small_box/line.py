"""A bad line between two network namespaces: two TUN devices, and this program
between them, which holds each packet up, lets it wait for its turn, or loses it.

For kernels without netem; the TCP on both ends is the kernel's own.
"""

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time

TUNSETIFF = 0x400454CA
TUN_WITHOUT_HEADER = 0x1001
PACKET = 1 << 16


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


class Line:
    """`delay` seconds each way, `rate` bits a second each way, `loss` of all packets."""

    # What a modem holds back while its line is busy: two seconds of it.
    QUEUE = 2.0

    def __init__(self, here, there, delay, rate, loss, seed=1):
        self.delay, self.rate, self.loss = delay, rate, loss
        self.chance = random.Random(seed)
        self.bytes, self.packets, self.lost, self.full = [0, 0], [0, 0], [0, 0], [0, 0]
        self.free_at, self.queue, self.order = [0.0, 0.0], [], 0
        self.ends = [self._end(here, "10.77.0.1", "10.77.0.2"), self._end(there, "10.77.0.2", "10.77.0.1")]
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    @staticmethod
    def _end(namespace, own, peer):
        name = f"wan{os.getpid() % 100_000}-{own[-1]}"
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH14x", name.encode(), TUN_WITHOUT_HEADER))
        ip("link", "set", name, "netns", namespace)
        ip("-n", namespace, "address", "add", own, "peer", peer, "dev", name)
        ip("-n", namespace, "link", "set", name, "up")
        return tun

    def _run(self):
        poll = select.poll()
        for end in self.ends:
            poll.register(end, select.POLLIN)
        while not self.over.is_set():
            wait = self.queue[0][0] - time.monotonic() if self.queue else 0.2
            poll.poll(max(0, min(wait, 0.2)) * 1000)
            for side in (0, 1):
                self._take(side)
            while self.queue and self.queue[0][0] <= time.monotonic():
                _, _, side, packet = heapq.heappop(self.queue)
                try:
                    os.write(self.ends[1 - side], packet)
                except OSError:
                    pass

    def _take(self, side):
        while True:
            try:
                packet = os.read(self.ends[side], PACKET)
            except OSError:
                return
            now = time.monotonic()
            if self.free_at[side] - now > self.QUEUE:
                self.full[side] += 1
                continue
            # A packet that is lost has been sent all the same.
            self.free_at[side] = max(now, self.free_at[side]) + len(packet) * 8 / self.rate
            self.bytes[side] += len(packet)
            self.packets[side] += 1
            if self.chance.random() < self.loss:
                self.lost[side] += 1
                continue
            self.order += 1
            heapq.heappush(self.queue, (self.free_at[side] + self.delay, self.order, side, packet))

    def cut(self):
        self.over.set()
        self.thread.join()
        for end in self.ends:
            os.close(end)
