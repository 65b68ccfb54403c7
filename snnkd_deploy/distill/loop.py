"""The training loop: phases of epochs, checkpoints that resume bit for bit, best model by validation.

All randomness is a function of (seed, epoch, batch), so a resumed run draws what an uninterrupted one draws
and no generator state has to be saved.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from snnkd_deploy.data import epoch_order
from snnkd_deploy.distill.checkpoint import (
    load_tensors,
    optimizer_tensors,
    restore_optimizer,
    save_tensors,
)
from snnkd_deploy.distill.parallel import current_group, sum_gradients, sum_values
from snnkd_deploy.errors import DataError, TrainingError
from snnkd_deploy.nets.batchnorm import share_statistics
from snnkd_deploy.progress import say, task

# Mid-epoch checkpoints are this far apart, so that a kill costs at most this much work.
CHECKPOINT_SECONDS = 30.0


@dataclass(frozen=True)
class Phase:
    """A stretch of training with its own learning rate, falling along a cosine from `lr` to `lr_end`."""

    name: str
    epochs: int
    lr: float
    lr_end: float = 0.0


@dataclass(frozen=True)
class Plan:
    """How to train. `weight_decay` acts on weights only, not on biases and normalisation.

    `ema` > 0 keeps an exponential moving average of the parameters with that decay (less in the first steps);
    it is what is validated, picked as best and carried into the next phase.
    """

    phases: tuple[Phase, ...]
    batch: int
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: float = 0.0
    momentum: float = 0.9
    grad_clip: float = 0.0
    seed: int = 0
    ema: float = 0.0


@dataclass(frozen=True)
class BatchInfo:
    """Where the training stands: global epoch, batch in the epoch, and the share that is done (0..1).

    `rank` of `size` processes share a batch.
    """

    epoch: int
    batch: int
    step: int
    progress: float
    rank: int = 0
    size: int = 1

    def mine(self, batch: Tensor) -> Tensor:
        """This process's samples of a global batch, along the first axis."""
        return batch if self.size == 1 else batch[self.rank :: self.size]


class Trainee(ABC):
    """What is trained: it knows its data, its loss, and how to become what the next phase needs."""

    module: nn.Module
    samples: int
    device: torch.device = torch.device("cpu")

    def enter_phase(self, phase: Phase) -> None:  # noqa: B027  (an optional hook)
        """Prepare for a phase (the student folds and quantises here). Parameters may change identity."""

    @abstractmethod
    def loss_terms(self, rows: Tensor, info: BatchInfo) -> dict[str, Tensor]:
        """Named scalar terms whose sum is minimised, for these rows of the training split.

        `rows` are those of the global batch; the terms are means over `info.mine(rows)`.
        """

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Metrics on the validation split; "accuracy" picks the best epoch."""

    def extra_modules(self) -> list[nn.Module]:
        """Training-only modules whose parameters are optimised and checkpointed too."""
        return []

    def structure(self) -> dict[str, Any]:
        """JSON-able facts needed to rebuild the module's shape before weights are loaded."""
        return {}

    def restore_structure(self, structure: dict[str, Any]) -> None:  # noqa: B027  (an optional hook)
        """Inverse of `structure`."""


@dataclass
class _State:
    phase: int = 0
    epoch_in_phase: int = 0
    batch: int = 0
    epoch: int = 0
    step: int = 0
    best: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    averaged: int = 0


@dataclass(frozen=True)
class Result:
    """History of all epochs, and the tensors and structure of the best epoch of the last phase."""

    history: list[dict[str, Any]]
    best: dict[str, Any]
    tensors: dict[str, Tensor]
    structure: dict[str, Any]


class Trainer:
    """Runs a plan on a trainee; `folder` holds `checkpoint.safetensors` and `best.safetensors` meanwhile."""

    def __init__(self, trainee: Trainee, plan: Plan, folder: Path, fingerprint: str, label: str) -> None:
        self.trainee, self.plan, self.folder, self.label = trainee, plan, folder, label
        self.fingerprint = fingerprint
        self.state = _State()
        self.optimizer: torch.optim.Optimizer | None = None
        self._last_save = time.monotonic()
        self.group = current_group()
        if self.group.size > 1:
            share_statistics(trainee.module)
        # Moving averages by parameter name, kept where `plan.ema` asks for them.
        self.ema: dict[str, Tensor] = {}
        rest = trainee.samples % plan.batch
        if min(rest or plan.batch, plan.batch) < self.group.size:
            raise TrainingError(
                "a batch has fewer samples than there are processes",
                where=label,
                need=f">= {self.group.size}",
                have=f"{rest or plan.batch} in the last batch",
                remedy="another batch size, or fewer processes",
            )

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    @property
    def _best(self) -> Path:
        return self.folder / "best.safetensors"

    # -- public -----------------------------------------------------------------------------------

    def run(self) -> Result:
        """Train to the end of the plan, from the last checkpoint of the same work if there is one."""
        resumed = self._resume()
        if not resumed:
            self._enter(0)
            self._save()
        while self.state.phase < len(self.plan.phases):
            phase = self.plan.phases[self.state.phase]
            if self.state.epoch_in_phase >= phase.epochs:
                self.state.phase += 1
                self.state.epoch_in_phase = 0
                if self.state.phase < len(self.plan.phases):
                    self._enter(self.state.phase)
                    self._save()
                continue
            self._epoch(phase)
        self._save()
        tensors, meta = load_tensors(self._best)
        return Result(self.state.history, self.state.best, tensors, meta["structure"])

    # -- one epoch ----------------------------------------------------------------------------------

    def _epoch(self, phase: Phase) -> None:
        state, plan, trainee = self.state, self.plan, self.trainee
        order = epoch_order(trainee.samples, plan.seed, state.epoch)
        batches = math.ceil(trainee.samples / plan.batch)
        started = time.monotonic()
        label = f"{self.label} ({phase.name}) epoch {state.epoch_in_phase + 1}/{phase.epochs}"
        with task(label, batches) as advance:
            advance(state.batch, "")
            while state.batch < batches:
                rows = order[state.batch * plan.batch : (state.batch + 1) * plan.batch]
                loss = self._step(phase, rows, batches)
                state.batch += 1
                state.step += 1
                advance(1, f"loss {loss:.3f}")
                if state.batch < batches and time.monotonic() - self._last_save > CHECKPOINT_SECONDS:
                    self._save()
        live = self._swap_in_average()
        metrics = trainee.validate()
        terms = {name: total / batches for name, total in state.sums.items()}
        entry = {"phase": phase.name, "epoch": state.epoch, "terms": terms, **metrics}
        state.history.append(entry)
        say(
            f"{label}: loss {sum(terms.values()):.4f}, validation {100 * metrics['accuracy']:.2f} %"
            + (f", rate {100 * metrics['rate']:.1f} %" if "rate" in metrics else "")
            + f" ({time.monotonic() - started:.0f} s)"
        )
        state.epoch += 1
        state.epoch_in_phase += 1
        state.batch, state.sums = 0, {}
        last_phase = state.phase == len(plan.phases) - 1
        # Only the last phase gives the thing that is deployed; ties go to the earlier epoch.
        if last_phase and metrics["accuracy"] > state.best.get("accuracy", -1.0):
            state.best = dict(entry)
            save_tensors(self._best, trainee.module.state_dict(), {"structure": trainee.structure(), "best": entry})
        self._restore(live)
        self._save()

    def _step(self, phase: Phase, rows: Tensor, batches: int) -> float:
        state, plan = self.state, self.plan
        assert self.optimizer is not None
        done = (state.epoch_in_phase * batches + state.batch) / (phase.epochs * batches)
        lr = phase.lr_end + 0.5 * (phase.lr - phase.lr_end) * (1 + math.cos(math.pi * done))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        total_epochs = sum(p.epochs for p in plan.phases)
        progress = (state.epoch + state.batch / batches) / total_epochs
        info = BatchInfo(state.epoch, state.batch, state.step, progress, self.group.rank, self.group.size)
        self.trainee.module.train()
        terms = self.trainee.loss_terms(rows, info)
        values = {name: float(term.detach()) for name, term in terms.items()}
        share = 1.0
        if self.group.size > 1:
            # Terms are means over a shard: weighted by its share they add up to the mean over the batch.
            share = len(info.mine(rows)) / len(rows)
            values = sum_values({name: value * share for name, value in values.items()}, self.trainee.device)
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            raise TrainingError(
                f"the loss is not finite: {', '.join(f'{name} = {values[name]}' for name in bad)}",
                where=f"{self.label}, epoch {state.epoch + 1}, batch {state.batch + 1} (step {state.step})",
                remedy=f"a smaller learning rate or gradient clipping; the last good state is {self._checkpoint}",
            )
        loss = sum(terms.values(), start=torch.zeros((), device=self.trainee.device))
        self.optimizer.zero_grad(set_to_none=True)
        (loss if share == 1.0 else loss * share).backward()
        if self.group.size > 1:
            sum_gradients(self._parameters())
        if plan.grad_clip > 0:
            nn.utils.clip_grad_norm_(self._parameters(), plan.grad_clip)
        self.optimizer.step()
        self._average()
        for name, value in values.items():
            state.sums[name] = state.sums.get(name, 0.0) + value
        return sum(values.values())

    # -- moving average -------------------------------------------------------------------------------

    @torch.no_grad()
    def _average(self) -> None:
        if self.plan.ema <= 0:
            return
        self.state.averaged += 1
        # The first steps count more, or the random start would linger.
        decay = min(self.plan.ema, self.state.averaged / (self.state.averaged + 9.0))
        for name, parameter in self.trainee.module.named_parameters():
            if name in self.ema:
                self.ema[name].lerp_(parameter.detach(), 1.0 - decay)
            else:
                self.ema[name] = parameter.detach().clone()

    @torch.no_grad()
    def _swap_in_average(self) -> dict[str, Tensor]:
        """Put the averages in place of the parameters; returns the live ones."""
        live = {}
        for name, parameter in self.trainee.module.named_parameters():
            if name in self.ema:
                live[name] = parameter.detach().clone()
                parameter.copy_(self.ema[name])
        return live

    @torch.no_grad()
    def _restore(self, live: dict[str, Tensor]) -> None:
        for name, parameter in self.trainee.module.named_parameters():
            if name in live:
                parameter.copy_(live[name])

    # -- phases and checkpoints -----------------------------------------------------------------------

    def _parameters(self) -> list[nn.Parameter]:
        modules = [self.trainee.module, *self.trainee.extra_modules()]
        return [p for module in modules for p in module.parameters() if p.requires_grad]

    def _enter(self, index: int) -> None:
        self._swap_in_average()  # the next phase goes on from what was validated
        self.ema, self.state.averaged = {}, 0
        self.trainee.enter_phase(self.plan.phases[index])
        self._make_optimizer()

    def _make_optimizer(self) -> None:
        decayed = [p for p in self._parameters() if p.dim() > 1]
        plain = [p for p in self._parameters() if p.dim() <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.plan.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        if self.plan.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(groups, lr=0.0, momentum=self.plan.momentum)
        else:
            self.optimizer = torch.optim.AdamW(groups, lr=0.0)

    def _save(self) -> None:
        assert self.optimizer is not None
        tensors = {f"module.{k}": v for k, v in self.trainee.module.state_dict().items()}
        for number, module in enumerate(self.trainee.extra_modules()):
            tensors |= {f"extra{number}.{k}": v for k, v in module.state_dict().items()}
        tensors |= optimizer_tensors(self.optimizer)
        tensors |= {f"ema.{name}": tensor for name, tensor in self.ema.items()}
        meta = {
            "fingerprint": self.fingerprint,
            "machine": self._machine(),
            "structure": self.trainee.structure(),
            "state": vars(self.state),
        }
        save_tensors(self._checkpoint, tensors, meta)
        self._last_save = time.monotonic()

    def _machine(self) -> dict[str, Any]:
        """What the last bits of sums depend on, besides the recipe."""
        return {
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
            "device": self.trainee.device.type,
            "processes": self.group.size,
        }

    def _resume(self) -> bool:
        if not self._checkpoint.is_file():
            return False
        try:
            tensors, meta = load_tensors(self._checkpoint)
        except DataError as error:
            say(f"{error} Starting this stage again.", style="yellow")
            return False
        if meta.get("fingerprint") != self.fingerprint:
            say(f"{self.label}: the recipe changed since the last checkpoint, starting again")
            return False
        now, then = self._machine(), meta.get("machine", {})
        changed = [f"{key} {then[key]} -> {now[key]}" for key in now if key in then and then[key] != now[key]]
        if changed:
            say(
                f"warning: {self.label} resumes with {', '.join(changed)}: sums are rounded in another order, "
                "so the weights will not be those of an uninterrupted run",
                style="yellow",
            )
        state = _State(**meta["state"])
        self.state = state
        self.trainee.restore_structure(meta["structure"])
        self.trainee.module.load_state_dict(_under("module.", tensors))
        for number, module in enumerate(self.trainee.extra_modules()):
            module.load_state_dict(_under(f"extra{number}.", tensors))
        self.ema = {name: tensor.to(self.trainee.device) for name, tensor in _under("ema.", tensors).items()}
        self._make_optimizer()
        assert self.optimizer is not None
        restore_optimizer(self.optimizer, tensors)
        if state.phase < len(self.plan.phases):
            say(f"{self.label}: resuming at epoch {state.epoch + 1}, batch {state.batch + 1}")
        return True


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
