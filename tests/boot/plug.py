"""A disk with a plug, as an NBD server for qemu: plug.py SOCKET IMAGE KEEP SEED.

What the machine writes is in the image once it has flushed it, and in memory
until then. Where qemu ends without saying goodbye, the power is gone: of each
block that was not flushed KEEP is the chance to have reached the disk. Ends
with its machine, and prints what became of the blocks as JSON.
"""

import json
import os
import random
import socket
import struct
import sys

BLOCK = 4096
OPTION, REPLY = b"IHAVEOPT", 0x3E889045565A9
EXPORT_NAME, ABORT, INFO, GO = 1, 2, 6, 7
ACK, INFORMATION, UNSUPPORTED = 1, 3, 0x80000001
READ, WRITE, GOODBYE, FLUSH = 0, 1, 2, 3
# The server has flags, flushes, and writes through where it is asked to.
ABILITIES = 1 | 4 | 8
WRITE_THROUGH = 1


class Disk:
    def __init__(self, image):
        self.file = os.open(image, os.O_RDWR)
        self.size = os.fstat(self.file).st_size
        self.unflushed = {}
        self.flushes = 0

    def block(self, number):
        return self.unflushed.get(number) or os.pread(self.file, BLOCK, number * BLOCK)

    def read(self, offset, length):
        first, last = offset // BLOCK, (offset + length - 1) // BLOCK
        if not any(number in self.unflushed for number in range(first, last + 1)):
            return os.pread(self.file, length, offset)
        data = b"".join(self.block(number) for number in range(first, last + 1))
        return data[offset - first * BLOCK :][:length]

    def write(self, offset, data, through):
        while data:
            number, begin = divmod(offset, BLOCK)
            part = data[: BLOCK - begin]
            if len(part) < BLOCK:
                old = self.block(number)
                block = old[:begin] + part + old[begin + len(part) :]
            else:
                block = part
            if through:
                self.unflushed.pop(number, None)
                os.pwrite(self.file, block, number * BLOCK)
            else:
                self.unflushed[number] = block
            offset += len(part)
            data = data[len(part) :]

    def flush(self):
        for number, block in self.unflushed.items():
            os.pwrite(self.file, block, number * BLOCK)
        self.unflushed.clear()
        self.flushes += 1

    def cut(self, keep, seed):
        chance = random.Random(seed)
        kept = [number for number in self.unflushed if chance.random() < keep]
        for number in kept:
            os.pwrite(self.file, self.unflushed[number], number * BLOCK)
        return {"unflushed": len(self.unflushed), "kept": len(kept), "flushes": self.flushes}


class Line:
    def __init__(self, connection):
        self.stream = connection.makefile("rwb", buffering=1 << 20)

    def take(self, form):
        return struct.unpack(form, self.bytes(struct.calcsize(form)))

    def bytes(self, length):
        data = self.stream.read(length)
        if len(data) < length:
            raise EOFError
        return data

    def give(self, form, *values, data=b""):
        self.stream.write(struct.pack(form, *values) + data)
        self.stream.flush()


def negotiate(line, disk):
    line.give(">8s8sH", b"NBDMAGIC", OPTION, 3)
    line.take(">I")
    while True:
        _, option, length = line.take(">8sII")
        line.bytes(length)
        if option == EXPORT_NAME:
            line.give(">QH", disk.size, ABILITIES)
            return
        if option == ABORT:
            raise EOFError
        if option not in (GO, INFO):
            line.give(">QIII", REPLY, option, UNSUPPORTED, 0)
            continue
        about = struct.pack(">HQH", 0, disk.size, ABILITIES)
        line.give(">QIII", REPLY, option, INFORMATION, len(about), data=about)
        line.give(">QIII", REPLY, option, ACK, 0)
        if option == GO:
            return


def serve(line, disk):
    """Until the machine says goodbye (true) or is gone (false)."""
    try:
        negotiate(line, disk)
        while True:
            _, flags, command, handle, offset, length = line.take(">IHHQQI")
            answer, error = b"", 0
            if command == READ:
                answer = disk.read(offset, length)
            elif command == WRITE:
                disk.write(offset, line.bytes(length), flags & WRITE_THROUGH)
            elif command == FLUSH:
                disk.flush()
            elif command == GOODBYE:
                return True
            else:
                error = 22
            line.give(">IIQ", 0x67446698, error, handle, data=answer)
    except (EOFError, OSError):
        return False


def main(path, image, keep, seed):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    print("ready", flush=True)
    connection, _ = listener.accept()
    disk = Disk(image)
    if serve(Line(connection), disk):
        disk.flush()
    print(json.dumps(disk.cut(float(keep), seed)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
