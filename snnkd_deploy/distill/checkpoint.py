"""Checkpoints without pickle: tensors as safetensors, everything else as JSON, replaced atomically.

A checkpoint is one file, so that a kill can never leave weights of one step beside the counters of another.
"""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from snnkd_deploy.errors import DataError
from snnkd_deploy.files import replacing


def save_tensors(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors and a JSON-able `meta` to one file. A reader sees the old file or the new one."""
    unshared = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(unshared, temporary, metadata={"meta": json.dumps(meta)})
        except SafetensorError as error:  # its name for a full disk
            raise OSError(errno.EIO, str(error), str(path)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote. Raises DataError for anything else."""
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("meta", "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, meta  # noqa: SIM118  (not a dict)
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise DataError(
            f"not a readable checkpoint: {error}", where=str(path), remedy="delete it to start this stage again"
        ) from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as flat tensors, `optim.<parameter number>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"optim.{number}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for number, entries in state.items()
        for name, value in entries.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Inverse of `optimizer_tensors`, into an optimiser over the same parameters in the same order."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optim."):
            _, number, name = key.split(".", 2)
            state.setdefault(int(number), {})[name] = value.clone()
    current = optimizer.state_dict()
    current["state"] = state
    optimizer.load_state_dict(current)


def tensors_hash(tensors: dict[str, Tensor]) -> str:
    """sha256 over names, shapes and bytes: equal weights have equal hashes."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
