"""A backend of your own in 40 lines: plain numpy, one neuron model, no optional package.

Register it in your package's pyproject.toml, and `snnkd simulate --backend mine` finds it:

    [project.entry-points."snnkd_deploy.backends"]
    mine = "own_backend:MyBackend"
"""

import nir
import numpy as np
import torch

from snnkd_deploy.backends.base import Availability
from snnkd_deploy.backends.inputs import check_inputs
from snnkd_deploy.backends.trace import Trace
from snnkd_deploy.errors import BackendError, Problem


class MyBackend:
    name = "mine"

    def availability(self):
        return Availability(usable=True, version=f"numpy {np.__version__}")

    def check(self, model):
        if not model.on_chip_grid:
            return [Problem("this backend runs integers only", model.path, remedy="snnkd lower")]
        chain = (nir.Input, nir.Linear, nir.LIF, nir.Output)
        wrong = [n for n, node in model.nodes.items() if not isinstance(node, chain) or len(model.sources[n]) > 1]
        return [Problem("only chains of Linear and LIF are supported", name) for name in wrong]

    def run(self, model, inputs, record):
        if problems := self.check(model):
            raise BackendError.from_problems(problems)
        check_inputs(model, inputs)
        x = inputs.x.expand(inputs.steps, *inputs.x.shape[1:]).numpy().astype(np.int64)
        trace = Trace(torch.zeros(0), meta={"backend": self.name})
        for name in (n for component in model.order for n in component):
            if isinstance(model.nodes[name], nir.Linear):
                x = x @ model.weight_int(name).T
            elif isinstance(model.nodes[name], nir.LIF):
                x = self.population(model.neuron(name), model.bias_int(name), x, name, trace, record)
        trace.logits = torch.from_numpy(x.sum(0).astype(np.float64))
        return trace

    def population(self, p, bias, drive, name, trace, record):
        u, v, kept = np.zeros_like(drive[0]), np.zeros_like(drive[0]), []
        for a in drive:
            u = np.sign(u) * (np.abs(u) * (4096 - p.Du) >> 12) + (a << 6)
            v = np.sign(v) * (np.abs(v) * (4096 - p.Dv) >> 12) + u + bias
            fired = v > p.vth << 6
            v = np.where(fired, 0, v)
            kept.append((fired.astype(np.int64), u, v))
        spikes, us, vs = (np.stack(column) for column in zip(*kept, strict=True))
        if record.wants(name):
            trace.spikes |= {name: torch.from_numpy(spikes.astype(np.uint8))} if record.spikes else {}
            trace.u |= {name: torch.from_numpy(us.astype(np.int32))} if record.states else {}
            trace.v |= {name: torch.from_numpy(vs.astype(np.int32))} if record.states else {}
        return spikes
