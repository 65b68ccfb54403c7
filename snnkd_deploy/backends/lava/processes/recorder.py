"""A sink that writes what arrives into `.npy` files, so that no value has to pass through `Var.get`."""

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

PORTS = 8


class FileRecorder(AbstractProcess):
    """Up to 8 inputs: a process costs far more per step than a port. Use `port(i)` to connect.

    Input i writes the value of logical step t of sample n to [t, n] of the array (T, B, N) in `paths[i]`;
    `depths[i]` is the time step, from 0, at which logical step 0 of the first sample arrives there.
    """

    def __init__(self, *, paths: list[str], sizes: list[int], depths: list[int], window: int) -> None:
        super().__init__(paths=paths, depths=depths, window=window)
        sizes = sizes + [1] * (PORTS - len(sizes))  # Lava wants every port of the model; unused ones idle
        self.a_in0 = InPort(shape=(sizes[0],))
        self.a_in1 = InPort(shape=(sizes[1],))
        self.a_in2 = InPort(shape=(sizes[2],))
        self.a_in3 = InPort(shape=(sizes[3],))
        self.a_in4 = InPort(shape=(sizes[4],))
        self.a_in5 = InPort(shape=(sizes[5],))
        self.a_in6 = InPort(shape=(sizes[6],))
        self.a_in7 = InPort(shape=(sizes[7],))

    def port(self, index: int) -> InPort:
        return getattr(self, f"a_in{index}")


@implements(proc=FileRecorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyFileRecorder(PyLoihiProcessModel):
    a_in0: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_in1: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_in2: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_in3: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_in4: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_in5: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_in6: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_in7: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: dict) -> None:
        super().__init__(proc_params)
        self.files = [np.load(path, mmap_mode="r+") for path in proc_params["paths"]]
        self.first_steps = [1 + depth for depth in proc_params["depths"]]
        self.window = proc_params["window"]

    def run_spk(self) -> None:
        for index, (rows, first) in enumerate(zip(self.files, self.first_steps, strict=True)):
            values = getattr(self, f"a_in{index}").recv()
            sample, step = divmod(self.time_step - first, self.window)
            if 0 <= sample < rows.shape[1]:
                rows[step, sample] = values
