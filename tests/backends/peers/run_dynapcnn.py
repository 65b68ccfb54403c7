"""Random networks in sinabs' `DynapcnnNetwork(discretize=False)`. Started by a test in another interpreter.

`python run_dynapcnn.py FOLDER`: for every i.json (input shape, layers with their sources) and i.npz (x, w<k>, b<k>)
writes i.out.npz with the spike counts of the last layer, and with the integers that the chip's layers hold. Needs
nothing of this package. samna, which installs binaries when imported, is replaced by an inert stand-in.
"""

import importlib.abc
import importlib.machinery
import json
import sys
import warnings
from pathlib import Path
from unittest.mock import MagicMock


class _Inert(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("samna", "samnagui"):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = MagicMock(name=spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, _Inert())
warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from sinabs import layers as sl  # noqa: E402
from sinabs.backend.dynapcnn import DynapcnnNetwork  # noqa: E402


class Net(torch.nn.Module):
    def __init__(self, layers, arrays):
        super().__init__()
        self.layers = layers
        self.names = []
        for k, layer in enumerate(layers):
            weight = torch.from_numpy(arrays[f"w{k}"]).float()
            bias = torch.from_numpy(arrays[f"b{k}"]).float() if f"b{k}" in arrays else None
            if layer["kind"] == "conv":
                out, inputs, size, _ = weight.shape
                module = torch.nn.Conv2d(inputs, out, size, layer["stride"], layer["padding"], bias=bias is not None)
            else:
                module = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
                self.flatten = torch.nn.Flatten()
            module.weight.data = weight
            if bias is not None:
                module.bias.data = bias
            setattr(self, f"w{k}", module)
            spike = sl.IAFSqueeze(
                batch_size=1, spike_threshold=torch.tensor(float(layer["vth"])), min_v_mem=float(layer["v_min"])
            )
            setattr(self, f"n{k}", spike)
            if len(layer["sources"]) > 1:
                setattr(self, f"m{k}", sl.Merge())
            if layer["pool"] > 1:
                setattr(self, f"p{k}", sl.SumPool2d(layer["pool"]))

    def forward(self, x):
        values = {-1: x}
        for k, layer in enumerate(self.layers):
            heard = [values[s] for s in layer["sources"]]
            x = getattr(self, f"m{k}")(*heard) if len(heard) > 1 else heard[0]
            if layer["kind"] == "linear":
                x = self.flatten(x)
            x = getattr(self, f"n{k}")(getattr(self, f"w{k}")(x))
            values[k] = getattr(self, f"p{k}")(x) if layer["pool"] > 1 else x
        return values[k]


torch.set_num_threads(1)
for path in sorted(Path(sys.argv[1]).glob("*.json")):
    job, arrays = json.loads(path.read_text()), np.load(path.with_suffix(".npz"))
    net = DynapcnnNetwork(Net(job["layers"], arrays), input_shape=tuple(job["shape"]), discretize=False)
    with torch.no_grad():
        outs = []
        for sample in range(arrays["x"].shape[1]):
            for layer in net.dynapcnn_layers.values():  # its own reset_states fails (sinabs 3.1.3)
                layer.spk_layer.reset_states()
            outs.append(net(torch.from_numpy(arrays["x"][:, sample]).float()).flatten(1).numpy())
    weights = [layer.conv_layer.weight.detach().numpy().astype(int).ravel() for layer in net.dynapcnn_layers.values()]
    np.savez(path.with_suffix(".out.npz"), spikes=np.stack(outs, 1), sums=np.array([w.sum() for w in weights]))
