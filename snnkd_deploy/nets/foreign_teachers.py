"""Teachers that others built: torchvision, timm, a user's own module, an ONNX file.

Maps can be distilled only from a network that ends in global average pooling and one linear layer. Whether one
does is not read off its code but measured: some module's maps, averaged over pixels, must be what the last linear
layer is given. Where that does not hold, the teacher gives logits only.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from snnkd_deploy.errors import DataError, UsageError
from snnkd_deploy.nets.teachers import Teacher, TeacherPlan
from snnkd_deploy.nets.userfile import call_user

_LIBRARIES = ("torchvision", "timm")


def is_library(net: str) -> bool:
    """True for `torchvision:resnet18` and `timm:...`."""
    return net.partition(":")[0] in _LIBRARIES and ":" in net


def library_teacher(plan: TeacherPlan) -> Teacher:
    """`torchvision:NAME` or `timm:NAME`, with random weights or those of `plan.weights`; nothing is downloaded."""
    library, _, name = plan.net.partition(":")
    try:
        module = importlib.import_module("torchvision.models" if library == "torchvision" else "timm")
    except ImportError as error:
        raise UsageError(
            f"{library} is not installed", where=f"teacher.net = '{plan.net}'", remedy=f"pip install {library}"
        ) from error
    except Exception as error:  # a wheel for another torch fails in its own ways
        raise UsageError(
            f"{library} is not usable here: {type(error).__name__}: {error}",
            where=f"teacher.net = '{plan.net}'",
            remedy=f"the {library} that belongs to torch {torch.__version__}",
        ) from error
    options = {"num_classes": plan.classes, **plan.options}
    try:
        if library == "torchvision":
            network = module.get_model(name, weights=None, **options)
        else:
            network = module.create_model(name, pretrained=False, in_chans=plan.input_shape[0], **options)
    except (ValueError, RuntimeError, TypeError) as error:
        raise UsageError(f"{library} cannot build it: {error}", where=f"teacher.net = '{plan.net}'") from error
    return WrappedTeacher(network, plan)


def user_teacher(plan: TeacherPlan) -> Teacher:
    """`path/to/file.py:factory`: called with `teacher.options` as keywords, it returns an nn.Module.

    The module maps images (B, C, H, W), 0..1 or normalised by `teacher.mean` and `teacher.std`, to logits (B, K).
    """
    network = call_user(plan.net, "teacher.net", **plan.options)
    if isinstance(network, Teacher):
        return network
    if not isinstance(network, nn.Module):
        raise UsageError(
            "the factory must return an nn.Module", where=f"teacher.net = '{plan.net}'", have=type(network).__name__
        )
    return WrappedTeacher(network, plan)


class WrappedTeacher(Teacher):
    """Any classifier. Raises UsageError where it does not take the images or gives another number of classes."""

    def __init__(self, network: nn.Module, plan: TeacherPlan) -> None:
        super().__init__()
        self.network, self.levels = network, plan.levels
        self.mean, self.std = _per_channel(plan.mean, 0.0), _per_channel(plan.std, 1.0)
        if plan.weights:
            load_weights(network, plan.weights)
        found = _probe(self, plan)
        self.gives_features = found is not None
        if found is not None:
            self._maps, head = found
            self._head = [head]  # in a list: its parameters belong to `network`

    @property
    def classifier(self) -> nn.Linear:  # type: ignore[override]
        return self._head[0]

    def prepared(self, pixels: Tensor) -> Tensor:
        """Pixel integers as the network wants them."""
        return (pixels.to(torch.float32) / self.levels - self.mean.to(pixels.device)) / self.std.to(pixels.device)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(self.prepared(pixels))

    def features(self, pixels: Tensor) -> Tensor:
        return self.answer(pixels, True)[1]  # type: ignore[return-value]

    def answer(self, pixels: Tensor, features: bool) -> tuple[Tensor, Tensor | None]:
        if not features:
            return self(pixels), None
        kept: list[Tensor] = []
        handle = self.network.get_submodule(self._maps).register_forward_hook(lambda _m, _i, out: kept.append(out))
        try:
            return self(pixels), kept[-1]
        finally:
            handle.remove()


def _per_channel(values: tuple[float, ...], default: float) -> Tensor:
    return torch.tensor(values or (default,), dtype=torch.float32).view(-1, 1, 1)


@torch.no_grad()
def _probe(teacher: WrappedTeacher, plan: TeacherPlan) -> tuple[str, nn.Linear] | None:
    """Run two images: the name of the module that gives the last maps, and the linear layer behind their mean."""
    network = teacher.network.eval()
    maps: list[tuple[str, Tensor]] = []
    heads: list[tuple[nn.Linear, Tensor]] = []

    def hook(name: str):
        def keep(module: nn.Module, inputs: tuple[Any, ...], out: Any) -> None:
            if isinstance(module, nn.Linear):
                heads.append((module, inputs[0].clone()))
            elif isinstance(out, Tensor) and out.dim() == 4 and name:
                maps.append((name, out.clone()))

        return keep

    handles = [module.register_forward_hook(hook(name)) for name, module in network.named_modules()]
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, plan.levels + 1, (2, *plan.input_shape), generator=generator)
    try:
        logits = teacher(images)
    except Exception as error:  # whatever a network raises on images that it is not for
        what = f"it does not take images of shape {plan.input_shape}: {type(error).__name__}: {error}"
        raise UsageError(what, where=f"teacher.net = '{plan.net}'") from error
    finally:
        for handle in handles:
            handle.remove()
    check_logits(tuple(logits.shape), plan)
    if not heads or not torch.allclose(heads[-1][0](heads[-1][1]), logits):
        return None
    head, given = heads[-1]
    for name, out in reversed(maps):
        pooled = out.mean((2, 3))
        if max(out.shape[2:]) > 1 and pooled.shape == given.shape and torch.allclose(pooled, given, 1e-4, 1e-5):
            return name, head
    return None


def check_logits(shape: tuple[int, ...], plan: TeacherPlan) -> None:
    """The teacher must speak of the data set's classes."""
    if len(shape) != 2 or shape[1] != plan.classes:
        raise UsageError(
            "the teacher's output is not one logit a class",
            where=f"teacher.net = '{plan.net}'",
            need=f"(B, {plan.classes})",
            have=shape,
            remedy="teacher.options, e.g. num_classes, or a network for this data set",
        )


def load_weights(network: nn.Module, path: str) -> None:
    """Weights of a safetensors file or a state_dict (no pickled code is run). Raises DataError."""
    file = Path(path)
    if not file.is_file():
        raise DataError("no such file", where=f"teacher.weights = '{path}'", remedy="a local file; none is downloaded")
    try:
        tensors: Any
        if file.suffix == ".safetensors":
            tensors = load_file(file)
        else:
            tensors = torch.load(file, map_location="cpu", weights_only=True)
        if isinstance(tensors, dict) and isinstance(tensors.get("state_dict"), dict):
            tensors = tensors["state_dict"]
        network.load_state_dict(tensors)
    except (SafetensorError, RuntimeError, OSError, TypeError, KeyError, EOFError) as error:
        raise DataError(
            f"these weights do not fit: {error}",
            where=str(file),
            remedy="a .safetensors file or torch.save(model.state_dict(), path), of this very network",
        ) from error
    except Exception as error:  # weights_only refuses pickles that hold more than tensors
        raise DataError(
            f"not a plain state_dict: {type(error).__name__}",
            where=str(file),
            remedy="torch.save(model.state_dict(), path), or safetensors",
        ) from error


class OnnxTeacher(Teacher):
    """An ONNX file, run by onnxruntime: logits only, not trainable. Its first input is (B, C, H, W) in float32."""

    gives_features = False

    def __init__(self, plan: TeacherPlan) -> None:
        super().__init__()
        try:
            import onnxruntime  # optional
        except ImportError as error:
            raise UsageError(
                "onnxruntime is not installed",
                where=f"teacher.net = '{plan.net}'",
                remedy="pip install onnxruntime",
            ) from error
        if not Path(plan.net).is_file():
            raise DataError("no such file", where=f"teacher.net = '{plan.net}'")
        try:
            self.session = onnxruntime.InferenceSession(plan.net, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no base class
            raise DataError(f"onnxruntime cannot read it: {error}", where=plan.net) from error
        self.levels = plan.levels
        self.mean, self.std = _per_channel(plan.mean, 0.0), _per_channel(plan.std, 1.0)
        first = self.session.get_inputs()[0]
        self.input_name = first.name
        # An exporter may have fixed the batch: then samples go one batch of that size at a time.
        self.batch = first.shape[0] if isinstance(first.shape[0], int) else None
        if first.type != "tensor(float)":
            raise DataError("its input is not float32", where=plan.net, need="tensor(float)", have=first.type)
        try:
            logits = self(torch.zeros(1, *plan.input_shape))
        except Exception as error:  # as above: another shape, another number of inputs
            what = f"it does not take images of shape {plan.input_shape}: {error}"
            raise UsageError(what, where=f"teacher.net = '{plan.net}'") from error
        check_logits(tuple(logits.shape), plan)

    def features(self, pixels: Tensor) -> Tensor:
        raise UsageError(
            "an ONNX file gives logits only", where="teacher.net", remedy='method = "seal", "kd" or "ckd_nld"'
        )

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        x = (pixels.cpu().to(torch.float32) / self.levels - self.mean) / self.std
        size = self.batch or max(1, len(x))
        parts = []
        for part in x.split(size):
            missing = size - len(part) if self.batch else 0
            padded = torch.cat([part, part.new_zeros(missing, *part.shape[1:])]) if missing else part
            parts.append(self.session.run(None, {self.input_name: padded.numpy()})[0][: len(part)])
        return torch.from_numpy(np.concatenate(parts)).to(pixels.device)
