"""The chip's integer arithmetic in ONNX operators: plain ones that every runtime has, no custom domain.

Integers are held in floats that are exact for them: weights and spikes in float32 (sums below 2^24, which is
checked), u, v and everything of a neuron in float64.
"""

from __future__ import annotations

from typing import Any

import nir
import numpy as np

from snnkd_deploy.arithmetic.cuba import DECAY_ONE, INPUT_SHIFT, STATE_MAX
from snnkd_deploy.errors import GraphError
from snnkd_deploy.graph.topology import Shape, conv_pads, pair


class Emitter:
    """Collects ONNX nodes and constants. Every method returns the name of its result.

    `prefix` keeps the names of a loop's body apart from those outside, which it can see.
    """

    def __init__(self, onnx: Any, prefix: str = "") -> None:
        self.helper, self.numpy_helper, self.types = onnx.helper, onnx.numpy_helper, onnx.TensorProto
        self.prefix = prefix
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self.count = 0

    def emit(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        self.count += 1
        result = name or f"{self.prefix}{op.lower()}_{self.count}"
        self.nodes.append(self.helper.make_node(op, list(inputs), [result], **attributes))
        return result

    def constant(self, value: Any, dtype: Any = np.float64, name: str = "") -> str:
        array = np.array(value, dtype=dtype, order="C")  # ascontiguousarray would give scalars an axis
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.known:
            self.known[key] = name or f"{self.prefix}constant_{len(self.known)}"
            self.constants[self.known[key]] = self.numpy_helper.from_array(array, self.known[key])
        return self.known[key]

    def cast(self, x: str, dtype: str) -> str:
        return self.emit("Cast", x, to=getattr(self.types, dtype))

    # -- arithmetic ---------------------------------------------------------------------------------

    def decayed(self, x: str, decay: int) -> str:
        """sign(x) * ((|x| * (4096 - decay)) >> 12), float64."""
        if decay == 0:
            return x
        keep = self.emit("Mul", self.emit("Abs", x), self.constant((DECAY_ONE - decay) / DECAY_ONE))
        return self.emit("Mul", self.emit("Sign", x), self.emit("Floor", keep))

    def wrapped(self, u: str) -> str:
        """One wrap into (-2^23, 2^23]."""
        span = self.constant(2.0 * STATE_MAX)
        over = self.cast(self.emit("Greater", u, self.constant(float(STATE_MAX))), "DOUBLE")
        under = self.cast(self.emit("LessOrEqual", u, self.constant(-float(STATE_MAX))), "DOUBLE")
        return self.emit("Add", u, self.emit("Mul", self.emit("Sub", under, over), span))

    def current(self, u: str, drive: str, decay: int, *, may_wrap: bool) -> str:
        """u of this step; drive float64."""
        pushed = self.emit("Mul", drive, self.constant(float(1 << INPUT_SHIFT)))
        if decay != DECAY_ONE:
            pushed = self.emit("Add", self.decayed(u, decay), pushed)
        return self.wrapped(pushed) if may_wrap else pushed

    def membrane(self, v: str, u: str, decay: int, bias: np.ndarray) -> str:
        """v of this step before the threshold test."""
        total = u if decay == DECAY_ONE else self.emit("Add", self.decayed(v, decay), u)
        if bias.any():
            total = self.emit("Add", total, self.constant(bias))
        low, high = self.constant(1.0 - STATE_MAX), self.constant(STATE_MAX - 1.0)
        return self.emit("Min", self.emit("Max", total, low), high)

    def fire(self, v: str, vth: int, name: str, next_v: str) -> str:
        """Spikes (float32) under `name`, and v after the reset under `next_v`."""
        fired = self.emit("Greater", v, self.constant(float(vth << INPUT_SHIFT)))
        silent = self.cast(self.emit("Not", fired), "DOUBLE")
        self.emit("Mul", v, silent, name=next_v)
        return self.emit("Cast", fired, name=name, to=self.types.FLOAT)

    # -- layers ---------------------------------------------------------------------------------------

    def weights(self, node: nir.NIRNode, integers: np.ndarray, x: str, name: str) -> str:
        """The node's linear map with integer weights on a batch (float32)."""
        if isinstance(node, nir.Conv1d | nir.Conv2d):
            axes = node.weight.ndim - 2
            pads = conv_pads(node)
            return self.emit(
                "Conv",
                x,
                self.constant(integers, np.float32, f"{name}.weight"),
                kernel_shape=[int(n) for n in node.weight.shape[2:]],
                strides=list(pair(node.stride)[:axes]),
                dilations=list(pair(node.dilation)[:axes]),
                pads=[before for before, _ in pads] + [after for _, after in pads],
                group=int(np.asarray(node.groups)),
            )
        if isinstance(node, nir.Scale):
            return self.emit("Mul", x, self.constant(integers, np.float32, f"{name}.weight"))
        return self.emit("MatMul", x, self.constant(integers.T, np.float32, f"{name}.weight"))

    def structure(self, node: nir.NIRNode, x: str, in_shape: Shape, out_shape: Shape, name: str) -> str:
        """Nodes that only move values (float32)."""
        if isinstance(node, nir.Flatten):
            # A reshape by batch and size: nothing of the batch is frozen into the file.
            return self.emit("Reshape", x, self.constant([0, *out_shape], np.int64))
        if isinstance(node, nir.SumPool2d):
            # As a convolution with ones: exporters lose the factor of a scaled average pool.
            ones = np.ones((in_shape[0], 1, *pair(node.kernel_size)))
            rows, columns = pair(node.padding)
            return self.emit(
                "Conv",
                x,
                self.constant(ones, np.float32),
                kernel_shape=list(pair(node.kernel_size)),
                strides=list(pair(node.stride)),
                pads=[rows, columns, rows, columns],
                group=int(in_shape[0]),
            )
        raise GraphError(f"{type(node).__name__} has no integer meaning", where=name, remedy="lower the model")
