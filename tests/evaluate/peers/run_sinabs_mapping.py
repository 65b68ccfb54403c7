"""Whether sinabs' own mapper places networks on Speck 2f. Started by a test in another interpreter.

`python run_sinabs_mapping.py JOBS.json` prints a JSON list of true and false. Needs nothing of this package. samna,
which installs binaries when imported, is replaced by an inert stand-in: placement does not use it.
"""

import importlib.abc
import importlib.machinery
import json
import sys
import warnings
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

import torch  # noqa: E402
from sinabs import layers as sl  # noqa: E402
from sinabs.backend.dynapcnn import DynapcnnNetwork  # noqa: E402
from sinabs.backend.dynapcnn.chips.speck2f import Speck2FConfigBuilder  # noqa: E402
from sinabs.backend.dynapcnn.mapping import get_valid_mapping  # noqa: E402


def build(job):
    modules, channels, size = [], job["shape"][0], list(job["shape"][1:])
    flat = False
    for layer in job["layers"]:
        if layer["kind"] == "conv":
            k, s, p = layer["kernel"], layer["stride"], layer["padding"]
            modules.append(torch.nn.Conv2d(channels, layer["out"], k, s, p, bias=layer["bias"]))
            size = [(n + 2 * p - k) // s + 1 for n in size]
        else:
            if not flat:
                modules.append(torch.nn.Flatten())
                channels, flat = channels * size[0] * size[1], True
            modules.append(torch.nn.Linear(channels, layer["out"], bias=layer["bias"]))
        channels = layer["out"]
        modules.append(sl.IAFSqueeze(batch_size=1, min_v_mem=-1.0))
        if layer.get("pool", 1) > 1:
            modules.append(sl.SumPool2d(layer["pool"]))
            size = [n // layer["pool"] for n in size]
    return DynapcnnNetwork(torch.nn.Sequential(*modules), input_shape=tuple(job["shape"]), discretize=False)


def fits(job):
    network = build(job)
    constraints = Speck2FConfigBuilder.get_constraints()
    try:
        mapping = get_valid_mapping(network.dynapcnn_layers, constraints)
    except ValueError as error:
        if "valid mapping" not in str(error).lower():
            raise
        return False
    assert len(set(mapping.values())) == len(job["layers"])
    return True


with open(sys.argv[1]) as file:
    print(json.dumps([fits(job) for job in json.load(file)]))
