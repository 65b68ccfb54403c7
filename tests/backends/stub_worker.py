"""A worker with a backend that misbehaves on purpose: `stub_worker.py FAULT FOLDER`.

FAULT: what goes wrong, `-N` at its end: only in the N-th run and only once (FOLDER remembers). Every run is
written to FOLDER/ran.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.worker import server, wire
from snnkd_deploy.errors import RefusedError

fault, _, when = sys.argv[1].partition("-")
folder = Path(sys.argv[2])
requests, replies = server.own_descriptors()


class Faulty(ExactBackend):
    def run(self, model, inputs, record):
        with open(folder / "ran", "a") as file:
            file.write(f"{os.getpid()} {inputs.samples}\n")
        marker = folder / "once"
        count = len((folder / "ran").read_text().splitlines())
        due = when == "" or (not marker.exists() and count == int(when))
        if due:
            marker.touch()
            self.go_wrong()
            if fault == "short":
                inputs = inputs.chunk(0, 1)
        return super().run(model, inputs, record)

    def go_wrong(self):
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault == "exit":
            print("the board caught fire", file=sys.stderr, flush=True)
            os._exit(7)
        elif fault == "hang":
            time.sleep(3600)
        elif fault == "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif fault == "garbage":
            os.write(replies, b"Segmentation fault (core dumped)\n" * 4)
            time.sleep(3600)
        elif fault == "checksum":
            pieces = wire.pack(wire.Message("trace", {"meta": {}}))
            os.write(replies, pieces[0] + pieces[1][:-1] + b" ")
            time.sleep(3600)
        elif fault == "oversize":
            os.write(replies, oversize())
            time.sleep(3600)
        elif fault == "nonsense":
            os.write(replies, b"".join(wire.pack(wire.Message("trace", {"meta": {}}))))
            time.sleep(3600)
        elif fault == "half":
            whole = b"".join(wire.pack(wire.Message("trace", {"meta": {}})))
            os.write(replies, whole[: len(whole) - 5])
            os._exit(0)
        elif fault == "children":
            with contextlib.suppress(ProcessLookupError):
                child = os.fork()
                if child == 0:
                    time.sleep(3600)
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault == "print":
            print("hello from a C library's banner")
            os.write(1, b"and from below Python\n")
            os.system("echo and from a child")
        elif fault == "error":
            raise ValueError("this sample is cursed")
        elif fault == "refuse":
            raise RefusedError("there is no such register")


def oversize():
    import struct
    import zlib

    sizes = wire._SIZES.pack(b"SNWK", 10, 2**60, bytes(32))
    return sizes + struct.pack(">I", zlib.crc32(sizes))


if fault == "version":
    hello = wire.Message("hello", {"protocol": 99, "package": "9.9"})
    os.write(replies, b"".join(wire.pack(hello)))
    time.sleep(3600)
elif fault == "banner":
    os.write(replies, b"Welcome to board7!\nSNack bar opens at nine\n")
elif fault == "shell":
    os.write(replies, b"bash: snnkd-python: command not found\n")
    sys.exit(127)
elif fault == "mute":
    time.sleep(3600)

server.get_backend = lambda name: Faulty()
if fault == "freeze":
    server.BEAT_S = 0.2
server.Server(requests, replies).serve()
server.leave(0)
