"""Small foreign graphs for tests of the lowering: real weights, NIR's own neurons."""

import nir
import numpy as np

from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.normalise import normalise
from snnkd_deploy.graph.profile import Encoding, Profile

DT = 1e-3
STEPS, SAMPLES = 16, 3


def model_of(shape, nodes, edges=None, reset="zero", **profile):
    named = {"input": nir.Input({"input": np.array(shape)})} | nodes | {"output": nir.Output({"output": None})}
    names = list(named)
    graph = nir.NIRGraph(named, edges or list(zip(names, names[1:], strict=False)), type_check=False)
    profile = {"dt_s": DT, "encoding": Encoding(kind="float"), **profile}
    return Model(normalise(graph), Profile(reset=reset, **profile))


def lif(*shape, steps=8.0, threshold=0.7, **more):
    one = np.ones(shape)
    values = {"tau": DT * steps * one, "r": steps * one, "v_leak": 0 * one, "v_threshold": threshold * one}
    return nir.LIF(**(values | {"v_reset": 0 * one} | more))


def integrate(*shape, threshold=0.7):
    one = np.ones(shape)
    return nir.IF(one / DT, one * threshold, one * 0)


def cuba(*shape, threshold=1.1):
    one = np.ones(shape)
    values = {"tau_syn": DT * 4 * one, "tau_mem": DT * 8 * one, "r": 8 * one, "w_in": 4 * one, "v_leak": 0 * one}
    return nir.CubaLIF(**values, v_threshold=one * threshold, v_reset=one * 0)


def weights(rng, *shape):
    return rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)


def affine(rng, out, inputs):
    return nir.Affine(weights(rng, out, inputs), rng.normal(0.1, 0.1, out))


def conv(rng, out, inputs, padding=1):
    return nir.Conv2d(None, weights(rng, out, inputs, 3, 3), 1, padding, 1, 1, rng.normal(0.1, 0.05, out))


def pool(kind, size):
    pair = np.array([size, size])
    return kind(pair, pair, np.array([0, 0]))


def events(model, rate=0.4, seed=1):
    rng = np.random.default_rng(seed)
    return (rng.random((STEPS, SAMPLES, *model.shapes["input"])) < rate).astype(np.float64)
