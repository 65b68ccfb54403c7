"""A sink that writes what arrives into a `.npy` file, so that no value has to pass through `Var.get`."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class FileRecorder(AbstractProcess):
    """Writes the value of logical step t of sample n to row [t, n] of the array (T, B, N) in `path`.

    `depth` is the time step, counted from 0, at which logical step 0 of the first sample arrives.
    """

    def __init__(self, *, path: str, size: int, window: int, depth: int) -> None:
        super().__init__(path=path, size=size, window=window, depth=depth)
        self.a_in = InPort(shape=(size,))


@implements(proc=FileRecorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyFileRecorder(PyLoihiProcessModel):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: dict) -> None:
        super().__init__(proc_params)
        self.rows = np.load(proc_params["path"], mmap_mode="r+")
        self.window = proc_params["window"]
        self.first_step = 1 + proc_params["depth"]

    def run_spk(self) -> None:
        values = self.a_in.recv()
        sample, step = divmod(self.time_step - self.first_step, self.window)
        if 0 <= sample < self.rows.shape[1]:
            self.rows[step, sample] = values
