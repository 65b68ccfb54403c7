"""Run a `.net` file on Lava's own processes, as lava-dl's netx builds them. A script: it may hang or crash.

    python run_lava_net.py {processes|netx} MODEL.net X.npz OUT.npz

X.npz: `x` (T, *shape) in torch order, or with `image` the bias mantissas (C, H, W) and `T`. OUT.npz: for the k-th
layer with neurons `spikes/<k>`, `u/<k>`, `v/<k>` as (T, *shape) in torch order, in logical time. "netx" loads the
file with lava-dl itself; "processes" needs lava-nc only and restates netx's loader.
"""

from __future__ import annotations

import importlib.machinery
import multiprocessing
import sys
from unittest.mock import MagicMock

import h5py
import numpy as np

from snnkd_deploy.backends.lava.shim import import_lava

# Lava sets the start method of its processes on import, and fails where another test's library has set one before.
multiprocessing.set_start_method(None, force=True)
import_lava()
from lava.magma.core.run_conditions import RunSteps  # noqa: E402
from lava.magma.core.run_configs import RunConfig  # noqa: E402
from lava.proc.conv import utils  # noqa: E402
from lava.proc.conv.process import Conv  # noqa: E402
from lava.proc.dense.process import DelayDense, Dense  # noqa: E402
from lava.proc.io.sink import RingBuffer as Sink  # noqa: E402
from lava.proc.io.source import RingBuffer as Source  # noqa: E402
from lava.proc.lif.process import LIFReset  # noqa: E402

utils.TORCH_IS_AVAILABLE = False  # torch inside a Lava process hangs


class FixedPoint(RunConfig):
    def __init__(self) -> None:
        super().__init__(custom_sync_domains=None)

    def select(self, _process, models):
        return next((m for m in models if "fixed_pt" in m.tags), models[0])


def reverse(array: np.ndarray) -> np.ndarray:
    """(C, H, W) <-> (W, H, C)."""
    return array.transpose(*range(array.ndim)[::-1])


# -- netx's loader, restated ------------------------------------------------------------------------------


def netx_format(w: np.ndarray) -> tuple[np.ndarray, int, int]:
    """(weights, num_weight_bits, weight_exp)."""
    if (w.max() > 254 and w.min() < 0) or (w.min() < -256 and w.max() > 0):
        w = np.clip(w, -256, 254)
    signed = int(not (w.max() < 0 or w.min() >= 0))
    with np.errstate(divide="ignore"):
        if signed:
            scale = min(np.divide(127, w.max()), -128 / w.min())
        else:
            scale = -256 / w.min() if w.max() < 0 else 255 / w.max()
    shift = int(np.floor(np.log2(scale))) + signed
    n = 8
    while n > 0 and np.any(w % 2**n):
        n -= 1
    return w << shift, 8 - shift - (n - signed), -shift


def lif(neuron: dict, shape: tuple[int, ...], bias: np.ndarray | None, interval: int, offset: int) -> LIFReset:
    parameters = {"du": int(neuron["iDecay"]) - 1, "dv": int(neuron["vDecay"]), "vth": int(neuron["vThMant"])}
    if bias is not None:
        mantissa = np.zeros(shape, dtype=int)
        mantissa[...] = bias
        parameters["bias_mant"] = mantissa
    return LIFReset(shape=shape, bias_exp=6, reset_interval=interval, reset_offset=offset, **parameters)


def build(path: str, image: np.ndarray | None, interval: int) -> tuple[list, object, int]:
    """(neurons, port of the input, offset of the first neuron)."""
    neurons, first, flatten, shape = [], None, False, None
    offset = 1
    with h5py.File(path) as file:
        for i in range(len(file["layer"])):
            layer = {k: v[()] for k, v in file[f"layer/{i}"].items() if isinstance(v, h5py.Dataset)}
            kind = np.atleast_1d(layer["type"])[0].decode()
            group = file[f"layer/{i}"].get("neuron")
            neuron = {k: v[()] for k, v in group.items()} if group is not None else None
            if kind == "input":
                shape = tuple(int(n) for n in layer["shape"][::-1])
                if neuron is not None:
                    neurons.append(lif(neuron, shape, reverse(image), interval, offset))
                elif image is None:
                    offset = 2
                continue
            if kind == "flatten":
                flatten = True
                continue
            if kind == "average":
                continue
            if not neurons and first is None:
                offset = 2
            bias = layer["bias"].astype(int) if "bias" in layer else None
            at = offset + len(neurons)
            if kind == "conv":
                w = layer["weight"].astype(int)
                w = w.reshape(w.shape[:4])[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)
                pair = lambda key: tuple(int(n) for n in np.broadcast_to(layer[key], (2,)))[::-1]  # noqa: E731, B023
                synapse = Conv(
                    weight=w, input_shape=shape, stride=pair("stride"), padding=pair("padding"),
                    dilation=pair("dilation"), groups=int(layer["groups"]),
                )  # fmt: skip
                shape = tuple(int(n) for n in layer["shape"][::-1])
            else:
                synapse, recurrent = dense_synapses(layer, kind)
                shape = (synapse.a_out.shape[0],)
                neuron = neuron or {"iDecay": 0, "vDecay": 4096, "vThMant": 131072}
            cell = lif(neuron, shape, bias, interval, at)
            if neurons:
                source = neurons[-1].s_out
                (source.transpose([2, 1, 0]).flatten() if flatten else source).connect(synapse.s_in)
            else:
                first = synapse.s_in
            flatten = False
            synapse.a_out.connect(cell.a_in)
            if kind == "dense_rec":
                cell.s_out.connect(recurrent.s_in)
                recurrent.a_out.connect(cell.a_in)
            neurons.append(cell)
    return neurons, first, offset


def dense_synapses(layer: dict, kind: str):
    w = layer["weight"].astype(int)
    if w.ndim == 1:
        w = w.reshape(int(np.prod(layer["shape"])), -1)
    if kind == "dense_rec":
        whole, bits, exponent = netx_format(np.hstack([w, layer["weight_rec"].astype(int)]))
        common = {"num_weight_bits": bits, "weight_exp": exponent}
        return Dense(weights=whole[:, : w.shape[1]], **common), Dense(weights=whole[:, w.shape[1] :], **common)
    w, bits, exponent = netx_format(w)
    if "delay" not in layer:
        return Dense(weights=w, num_weight_bits=bits, weight_exp=exponent), None
    delay = np.clip(layer["delay"], 0, 62)
    if delay.ndim == 1:
        delay = delay.reshape(-1, 1) if delay.size == w.shape[0] else delay.reshape(1, -1)
    delay = np.broadcast_to(delay, w.shape).astype(int)
    return DelayDense(weights=w, delays=delay, max_delay=62, num_weight_bits=bits, weight_exp=exponent), None


# -- lava-dl itself ---------------------------------------------------------------------------------------


def load_netx(path: str, image: np.ndarray | None, interval: int) -> tuple[list, object, int]:
    for name in (
        "matplotlib", "matplotlib.pyplot", "cv2", "torchvision", "torchvision.transforms",
        "torchvision.transforms.functional", "PIL", "PIL.Image", "PIL.ImageDraw", "PIL.ImageFont", "IPython",
        "IPython.display",
    ):  # fmt: skip
        try:
            __import__(name)
        except Exception:
            stub = MagicMock()
            stub.__spec__, stub.__path__ = importlib.machinery.ModuleSpec(name, None), []
            sys.modules[name] = stub
    from lava.lib.dl import netx

    offset = 1 if image is not None else 2
    # With `reset_offset` o, netx resets the k-th block with neurons at step o + 1 + k.
    net = netx.hdf5.Network(net_config=path, reset_interval=interval, reset_offset=offset - 1)
    if image is not None:
        net.in_layer.neuron.bias_mant.init = reverse(image).astype(int)
    return [layer.neuron for layer in net.layers], net.inp, offset


# -- running ----------------------------------------------------------------------------------------------


def main(mode: str, path: str, inputs: str, target: str) -> None:
    data = np.load(inputs)
    image = data.get("image")
    steps = int(data["T"]) if image is not None else len(data["x"])
    interval = steps + 300  # one window
    neurons, port, offset = (build if mode == "processes" else load_netx)(path, image, interval)
    total = steps + len(neurons) + 2
    if image is None:
        x = data["x"]
        columns = np.zeros((*port.shape, total), dtype=int)
        for t in range(steps):
            columns[..., t] = reverse(x[t]).reshape(port.shape) if x[t].ndim > 1 else x[t]
        Source(data=columns).s_out.connect(port)
    sinks = []
    for cell in neurons:
        sinks.append(Sink(shape=cell.s_out.shape, buffer=total + 1))
        cell.s_out.connect(sinks[-1].a_in)
    us, vs = [[] for _ in neurons], [[] for _ in neurons]
    config = FixedPoint()
    for _ in range(total):
        neurons[0].run(condition=RunSteps(num_steps=1), run_cfg=config)
        for k, cell in enumerate(neurons):
            us[k].append(cell.u.get().copy())
            vs[k].append(cell.v.get().copy())
    spikes = [sink.data.get() for sink in sinks]
    neurons[0].stop()
    out = {}
    for k in range(len(neurons)):
        begin = offset - 1 + k  # logical step 0 of this layer
        out[f"spikes/{k}"] = np.stack([reverse(spikes[k][..., begin + t]) for t in range(steps)])
        out[f"u/{k}"] = np.stack([reverse(us[k][begin + t]) for t in range(steps)])
        out[f"v/{k}"] = np.stack([reverse(vs[k][begin + t]) for t in range(steps)])
    np.savez(target, **out)


if __name__ == "__main__":
    main(*sys.argv[1:])
