"""One frame of the worker's protocol: a JSON header and raw arrays, with sizes and checksums in front.

::

    "SNWK"  header bytes (u32)  body bytes (u64)  sha256 of header + body  crc32 of what is left of it
    header: {"kind": ..., "fields": {...}, "arrays": [[name, dtype, shape, coding], ...]}
    body:   the arrays' bytes, one after the other, little endian, in C order

`coding` is "raw", or "bits" for arrays of 0 and 1, which travel as one bit each. Sizes are checked before anything
is allocated; nothing that is received is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PROTOCOL = 1
MAX_HEADER = 16 * 2**20
MAX_BODY = 2**30
# A login shell may greet before the worker says anything; more than this is no greeting.
MAX_GREETING = 64 * 2**10
_MAGIC = b"SNWK"
_SIZES = struct.Struct(">4sIQ32s")
_CRC = struct.Struct(">I")
_PREFIX_SIZE = _SIZES.size + _CRC.size
_DTYPES = {"bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64"}

Read = Callable[[int], bytes]  # read(n): exactly n bytes, fewer only where the stream ends


class WireError(Exception):
    """What arrived is no frame of this protocol, or was damaged on its way."""


@dataclass(frozen=True)
class Message:
    """`kind` says what it is; `fields` are plain JSON values."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def pack(message: Message, max_body: int = MAX_BODY) -> list[bytes]:
    """The pieces of a frame in order. Raises WireError where it is over the limits."""
    table, pieces = [], []
    for name, array in message.arrays.items():
        if array.dtype.name not in _DTYPES:
            raise WireError(f"array '{name}' has type {array.dtype}, which does not travel")
        bits = array.dtype == np.uint8 and array.size > 0 and array.max() <= 1
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        pieces.append(np.packbits(little).tobytes() if bits else little.tobytes())
        table.append([name, array.dtype.name, list(array.shape), "bits" if bits else "raw"])
    header = json.dumps({"kind": message.kind, "fields": message.fields, "arrays": table}).encode()
    body = sum(map(len, pieces))
    if len(header) > MAX_HEADER or body > max_body:
        raise WireError(f"a message of {body} bytes is over the limit of {max_body}")
    digest = hashlib.sha256(header)
    for piece in pieces:
        digest.update(piece)
    sizes = _SIZES.pack(_MAGIC, len(header), body, digest.digest())
    return [sizes + _CRC.pack(zlib.crc32(sizes)), header, *pieces]


def unpack(read: Read, max_body: int = MAX_BODY, greeting: bool = False) -> Message | None:
    """The next message; None where the stream ends between two of them. Raises WireError for anything else.

    With `greeting` what comes before the first frame is skipped, up to MAX_GREETING bytes.
    """
    prefix = read(_PREFIX_SIZE)
    skipped = b""
    while greeting and len(prefix) == _PREFIX_SIZE and not prefix.startswith(_MAGIC):
        at = prefix.find(_MAGIC[:1], 1)
        cut = at if at > 0 else _PREFIX_SIZE
        skipped, prefix = skipped + prefix[:cut], prefix[cut:]
        if len(skipped) > MAX_GREETING:
            break
        prefix += read(cut)
    if not prefix and not skipped:
        return None
    if len(prefix) < _PREFIX_SIZE or not prefix.startswith(_MAGIC):
        raise WireError(f"not the protocol of a worker, but {_excerpt(skipped + prefix)}")
    if zlib.crc32(prefix[: _SIZES.size]) != _CRC.unpack(prefix[_SIZES.size :])[0]:
        raise WireError("wrong checksum: the sizes of a message were damaged on the way")
    _, header_size, body_size, digest = _SIZES.unpack(prefix[: _SIZES.size])
    if header_size > MAX_HEADER or body_size > max_body:
        raise WireError(f"a message of {header_size} + {body_size} bytes is over the limit of {max_body}")
    header, body = read(header_size), read(body_size)
    if len(header) + len(body) < header_size + body_size:
        raise WireError(f"the stream ended after {len(header) + len(body)} of {header_size + body_size} bytes")
    found = hashlib.sha256(header)
    found.update(body)
    if found.digest() != digest:
        raise WireError("wrong checksum: a message was damaged on the way")
    return _decode(header, body)


def _decode(header: bytes, body: bytes) -> Message:
    try:
        content = json.loads(header)
        kind, fields, table = content["kind"], content["fields"], content["arrays"]
        if not isinstance(kind, str) or not isinstance(fields, dict):
            raise TypeError("kind or fields")
        arrays, at = {}, 0
        for name, dtype, shape, coding in table:
            if dtype not in _DTYPES or any(not isinstance(n, int) or n < 0 for n in shape):
                raise ValueError(f"array {name}: {dtype} {shape}")
            count = 1
            for n in shape:
                count *= n
            size = (count + 7) // 8 if coding == "bits" else count * np.dtype(dtype).itemsize
            piece = body[at : at + size]
            if len(piece) != size:
                raise ValueError(f"array {name} is cut short")
            if coding == "bits":
                flat = np.unpackbits(np.frombuffer(piece, np.uint8), count=count)
            else:
                flat = np.frombuffer(piece, np.dtype(dtype).newbyteorder("<")).astype(dtype)
            arrays[str(name)] = flat.reshape(shape)
            at += size
        if at != len(body):
            raise ValueError(f"{len(body) - at} bytes belong to no array")
    except (ValueError, TypeError, KeyError) as error:
        raise WireError(f"a message that says nothing sensible: {error}") from error
    return Message(kind, fields, arrays)


def _excerpt(found: bytes) -> str:
    text = found[:200].decode("utf-8", "replace").strip()
    return repr(text) if text else "nothing"
