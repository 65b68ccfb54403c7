"""Several processes on one training: `torchrun --nproc_per_node 2 -m snnkd_deploy.cli run RECIPE.toml --out DIR`.

Every process walks the same seeded epoch order and takes every size-th sample of each global batch from its rank
on. Gradients are summed with each shard weighted by its share of the batch, and batch normalisation takes its
statistics over all shards (`nets.batchnorm`), so that losses which are means over samples give what one process
gives on the global batch, up to float rounding. Not so: losses that look at a whole batch (CKD's convention
"code", the rate regulariser: each shard is its own batch) and random noise (each rank draws its own).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from snnkd_deploy.errors import UsageError
from snnkd_deploy.progress import set_quiet

# A rank that hears nothing from the others for this long gives up.
_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class Group:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """True in the one process that writes."""
        return self.rank == 0

    def shard(self, rows: Tensor) -> Tensor:
        """This process's part of a global batch, along the first axis."""
        return rows if self.size == 1 else rows[self.rank :: self.size]


def current_group() -> Group:
    """The group of this process; a group of one outside torchrun."""
    if dist.is_available() and dist.is_initialized():
        return Group(dist.get_rank(), dist.get_world_size())
    return Group()


@contextmanager
def joined() -> Iterator[Group]:
    """Join the other processes of a torchrun for as long as the block runs."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or not dist.is_available() or "RANK" not in os.environ:
        yield Group()
        return
    backend = "nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    if backend == "nccl":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group(backend, timeout=_TIMEOUT)
    group = current_group()
    if not group.leads:
        set_quiet(True)
    try:
        yield group
    finally:
        dist.destroy_process_group()


@contextmanager
def own_folder(folder: Path, group: Group) -> Iterator[Path]:
    """The run directory for the process that leads; for the others a temporary copy, so that only one writes.

    The copy holds the leader's checkpoints, from which all go on together.
    """
    if group.size == 1:
        yield folder
        return
    if group.leads:
        wait()  # until the others have copied
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="snnkd-rank") as name:
        copy = Path(name) / "run"
        if folder.is_dir():
            shutil.copytree(folder, copy)
        wait()
        yield copy


def wait() -> None:
    """Until every process is here."""
    if current_group().size > 1:
        dist.barrier()


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up every parameter's gradient over the processes, in one message."""
    wanted = [p for p in parameters if p.grad is not None]
    if not wanted:
        return
    flat = torch.cat([p.grad.reshape(-1) for p in wanted if p.grad is not None])
    dist.all_reduce(flat)
    start = 0
    for parameter in wanted:
        assert parameter.grad is not None
        count = parameter.grad.numel()
        parameter.grad.copy_(flat[start : start + count].view_as(parameter.grad))
        start += count


def sum_values(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """Add up numbers of the same names over the processes."""
    total = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return dict(zip(values, total.tolist(), strict=True))


def pick_device(wanted: str) -> torch.device:
    """`auto`: the GPU where there is one (that of this rank), else the CPU. Raises UsageError for what is not there."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UsageError(
            f"unknown device '{wanted}'", where="train.device", remedy="auto, cpu, cuda, cuda:1"
        ) from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        index = device.index if device.index is not None else int(os.environ.get("LOCAL_RANK", "0"))
        if index >= count:
            have = f"{count} GPUs that torch {torch.__version__} can use"
            raise UsageError("no such GPU", where="train.device", need=wanted, have=have, remedy='train.device = "cpu"')
        return torch.device("cuda", index)
    if device.type != "cpu":
        raise UsageError("only cpu and cuda are supported", where="train.device", have=wanted)
    return device
