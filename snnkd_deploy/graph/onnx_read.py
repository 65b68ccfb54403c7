"""Our ONNX files back to the model: they carry the `.nir` that they were made from.

Operators do not say which of them are a population, so nobody else's file can be read. A checksum over the whole
file ties the two: an edited operator would otherwise leave a model behind that is not what the file computes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import tempfile
import zlib
from pathlib import Path
from typing import Any

from snnkd_deploy.errors import GraphError
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.nirfile import read_nir, write_nir

ORIGIN_KEY = "snnkd_deploy_nir"
SEAL_KEY = "snnkd_deploy_sha256"
_REMEDY = "export it again from the model's .nir"
_LARGEST = 2**31  # bytes of the unpacked .nir, as a protobuf message is limited


def embed(model: Model, proto: Any) -> None:
    """Put the model's `.nir` (deflated, base64) and the checksum into the metadata of an ONNX model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.nir"
        write_nir(model, path)
        packed = base64.b64encode(zlib.compress(path.read_bytes(), 9)).decode("ascii")
    _put(proto, ORIGIN_KEY, packed)
    _put(proto, SEAL_KEY, _digest(proto))


def read_onnx(path: str | Path) -> Model:
    """The model that an ONNX file of ours was written from.

    Raises GraphError where the file is damaged or edited, of another tool, or the package onnx is missing.
    """
    path = Path(path)
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise GraphError(
            "reading ONNX needs the package onnx", where=str(path), remedy='pip install "snnkd_deploy[onnx]"'
        ) from error
    try:
        proto = onnx.load_model_from_string(path.read_bytes())
        entries = {entry.key: entry.value for entry in proto.metadata_props}
    except FileNotFoundError as error:
        raise GraphError("no such file", where=str(path), remedy="a .nir, .net or .onnx file") from error
    except (OSError, DecodeError, ValueError) as error:
        raise GraphError(f"not a readable ONNX file: {error}", where=str(path), remedy=_REMEDY) from error
    if ORIGIN_KEY not in entries:
        raise GraphError(
            "an ONNX file of another tool, or damaged: operators do not say which of them are a population",
            where=str(path),
            remedy='a .nir or .net file; an ONNX teacher goes into the recipe, teacher.net = "x.onnx"',
        )
    if entries.get(SEAL_KEY) != _digest(proto):
        raise GraphError(
            "the file is damaged or was edited: its checksum does not hold",
            where=str(path),
            remedy=_REMEDY,
        )
    with tempfile.TemporaryDirectory() as folder:
        inner = Path(folder) / "model.nir"
        try:
            unpack = zlib.decompressobj()
            inner.write_bytes(unpack.decompress(base64.b64decode(entries[ORIGIN_KEY], validate=True), _LARGEST))
        except (binascii.Error, zlib.error) as error:
            raise GraphError(
                f"the model inside the file is damaged: {error}", where=str(path), remedy=_REMEDY
            ) from error
        found = read_nir(inner)
    return Model(graph=found.graph, profile=found.profile, path=str(path))


def _put(proto: Any, key: str, value: str) -> None:
    entry = proto.metadata_props.add()
    entry.key, entry.value = key, value


def _digest(proto: Any) -> str:
    """Hash of everything but the checksum itself."""
    bare = type(proto)()
    bare.CopyFrom(proto)
    for index in reversed([i for i, entry in enumerate(bare.metadata_props) if entry.key == SEAL_KEY]):
        del bare.metadata_props[index]
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()
