"""The two AEDAT versions that public data sets come in (format pages of iniVation; README of DVS128 Gesture)."""

from __future__ import annotations

import struct

import numpy as np

from snnkd_deploy.data.event_pools import Recording
from snnkd_deploy.errors import DataError

_PACKET = struct.Struct("<hhiiiiii")
_POLARITY = 1
_END = b"#!END-HEADER"


def read_aedat31(raw: bytes, where: str) -> Recording:
    """All polarity events of an AEDAT 3.1 file, with the file's own timestamps in microseconds.

    After a header of `#` lines come packets, little-endian: type, source (16 bits), event size, timestamp offset,
    timestamp overflow, capacity, number, valid (32 bits each), then the events; a polarity event is a word (bit 0
    valid, bit 1 polarity, bits 2-16 y, 17-31 x) and a 31-bit time.
    """
    if not raw.startswith(b"#!AER-DAT3.1"):
        raise DataError("not an AEDAT 3.1 file", where=where, need="#!AER-DAT3.1", have=repr(raw[:12]))
    end = raw.find(_END)
    start = raw.find(b"\n", end) + 1
    if end < 0 or start == 0:
        raise DataError("truncated file: the header has no end", where=where)
    words: list[np.ndarray] = []
    times: list[np.ndarray] = []
    while start < len(raw):
        if start + _PACKET.size > len(raw):
            raise DataError("truncated file: half a packet header", where=where, have=f"{len(raw)} bytes")
        kind, _, size, _, overflow, capacity, number, valid = _PACKET.unpack_from(raw, start)
        start += _PACKET.size
        stop = start + capacity * size
        if size < 8 or not 0 <= valid <= number <= capacity or stop > len(raw):
            raise DataError(
                "damaged or truncated packet",
                where=where,
                need=f"{capacity} events of {size} bytes",
                have=f"{len(raw) - start} bytes",
            )
        if kind == _POLARITY:
            packet = np.frombuffer(raw, "<u4", number * size // 4, start).reshape(number, size // 4)
            # Trust the mark on each event only where the packet says that it holds some invalid ones.
            keep = packet[:, 0] & 1 == 1 if valid < number else slice(None)
            words.append(packet[keep, 0])
            times.append(packet[keep, 1].astype(np.int64) + (overflow << 31))
        start = stop
    word = np.concatenate(words) if words else np.zeros(0, np.uint32)
    t = np.concatenate(times) if times else np.zeros(0, np.int64)
    return Recording((word >> 17).astype(np.int64), (word >> 2 & 0x7FFF).astype(np.int64), word >> 1 & 1, t)


def read_aedat2_dvs128(raw: bytes, where: str) -> Recording:
    """All pixel events of an AEDAT 2.0 file of a DVS128, in the camera's own coordinates and polarity bit.

    After a header of `#` lines come pairs of big-endian 32-bit words: address (bit 15 external event, bits 8-14 y,
    1-7 x, 0 polarity) and time in microseconds.
    """
    start = 0
    while raw[start : start + 1] == b"#":  # an address is below 2**16, so no event can begin with "#"
        line = raw.find(b"\n", start)
        if line < 0:
            raise DataError("truncated file: the header has no end", where=where)
        start = line + 1
    if start and not raw.startswith(b"#!AER-DAT2.0"):
        raise DataError("not an AEDAT 2.0 file", where=where, need="#!AER-DAT2.0", have=repr(raw[:12]))
    if (len(raw) - start) % 8:
        raise DataError("truncated file", where=where, need="eight bytes an event", have=f"{len(raw) - start} bytes")
    pairs = np.frombuffer(raw, ">u4", offset=start).reshape(-1, 2).astype(np.int64)
    pairs = pairs[pairs[:, 0] & 0x8000 == 0]
    address = pairs[:, 0]
    return Recording(address >> 1 & 0x7F, address >> 8 & 0x7F, address & 1, pairs[:, 1])
