"""Reads u and v of a population after a step, through reference ports, into `.npy` files."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class StateProbe(AbstractProcess):
    """Writes one state after logical step t of sample n to [t, n] of (T, B, N) in `path`.

    With a file of one row (1, B, N) only the state after the last step of each sample is read.
    """

    def __init__(self, *, path: str, size: int, window: int, depth: int) -> None:
        super().__init__(path=path, size=size, window=window, depth=depth)
        self.state = RefPort(shape=(size,))


@implements(proc=StateProbe, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyStateProbe(PyLoihiProcessModel):
    state: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: dict) -> None:
        super().__init__(proc_params)
        self.rows = np.load(proc_params["path"], mmap_mode="r+")
        self.window = proc_params["window"]
        self.first_step = 1 + proc_params["depth"]
        self.last_only = self.rows.shape[0] == 1

    def post_guard(self) -> bool:
        sample, step = divmod(self.time_step - self.first_step, self.window)
        if not 0 <= sample < self.rows.shape[1]:
            return False
        return not self.last_only or step == self.window - 1

    def run_post_mgmt(self) -> None:
        sample, step = divmod(self.time_step - self.first_step, self.window)
        self.rows[0 if self.last_only else step, sample] = self.state.read()
