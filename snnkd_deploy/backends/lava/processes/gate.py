"""Keeps samples apart: drops spikes that would only arrive after their sample has ended."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class SampleGate(AbstractProcess):
    """Passes spike j at logical step t where `t < limit[j]`, without latency.

    A back edge or a delay of d steps carries the last d steps of a sample into the next one's window,
    which no reset of u and v undoes. With limit = T - d nothing is left on the way at a boundary, and
    inside a sample nothing changes.
    """

    def __init__(self, *, limit: np.ndarray, window: int, depth: int) -> None:
        super().__init__(window=window, depth=depth)
        self.s_in = InPort(shape=limit.shape)
        self.s_out = OutPort(shape=limit.shape)
        self.limit = Var(shape=limit.shape, init=limit)


@implements(proc=SampleGate, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySampleGate(PyLoihiProcessModel):
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    limit: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def __init__(self, proc_params: dict) -> None:
        super().__init__(proc_params)
        self.window = proc_params["window"]
        self.first_step = 1 + proc_params["depth"]

    def run_spk(self) -> None:
        step = (self.time_step - self.first_step) % self.window
        self.s_out.send(np.where(step < self.limit, self.s_in.recv(), 0))
