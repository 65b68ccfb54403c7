"""A source that reads its columns from a `.npy` file: one a sample where the input is constant."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class ColumnSource(AbstractProcess):
    """Sends logical step t of sample n at Lava's time step `1 + shift + n * window + t`, zeros elsewhere.

    `path` holds (B, N) for a constant input and (T, B, N) otherwise, integers.
    """

    def __init__(self, *, path: str, size: int, window: int, shift: int, constant: bool) -> None:
        super().__init__(path=path, size=size, window=window, shift=shift, constant=constant)
        self.s_out = OutPort(shape=(size,))


@implements(proc=ColumnSource, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyColumnSource(PyLoihiProcessModel):
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: dict) -> None:
        super().__init__(proc_params)
        self.columns = np.load(proc_params["path"], mmap_mode="r")
        self.constant = proc_params["constant"]
        self.samples = self.columns.shape[0 if self.constant else 1]
        self.window = proc_params["window"]
        self.first_step = 1 + proc_params["shift"]
        self.zeros = np.zeros(proc_params["size"], dtype=np.int32)

    def run_spk(self) -> None:
        sample, step = divmod(self.time_step - self.first_step, self.window)
        if not 0 <= sample < self.samples:
            self.s_out.send(self.zeros)
        elif self.constant:
            self.s_out.send(self.columns[sample])
        else:
            self.s_out.send(self.columns[step, sample])
