"""A route as integer matrices, one for each delay that its values may take."""

from __future__ import annotations

import nir
import numpy as np
from scipy.sparse import csr_matrix, diags, identity

from snnkd_deploy.backends.routes import Route
from snnkd_deploy.backends.unroll import pool_matrix, size_of, weight_matrix
from snnkd_deploy.graph.model import Model


def axonal_delays(model: Model, weight: str) -> np.ndarray:
    """Delay in steps of every flat input of a weight node, int64 (one number each channel or neuron)."""
    in_shape = model.shapes[model.sources[weight][0]]
    delay = np.asarray(model.synapse(weight).delay or (0,), dtype=np.int64)
    return np.broadcast_to(delay.reshape(-1, *[1] * (len(in_shape) - 1)), in_shape).ravel()


def node_delays(model: Model, name: str) -> np.ndarray:
    """Delay in steps of every flat element behind a nir.Delay, int64."""
    node = model.nodes[name]
    assert isinstance(node, nir.Delay)
    steps = np.rint(np.asarray(node.delay, dtype=np.float64) / model.profile.dt_s).astype(np.int64)
    return np.broadcast_to(steps, model.shapes[name]).ravel()


def delays_along(model: Model, route: Route) -> list[np.ndarray]:
    """Every delay that a route passes, in order: Delay nodes, and the axonal delay of its weights."""
    delays = [node_delays(model, n) for n in route.pre if isinstance(model.nodes[n], nir.Delay)]
    if route.weight is not None:
        delays.append(axonal_delays(model, route.weight))
    return delays + [node_delays(model, n) for n in route.post if isinstance(model.nodes[n], nir.Delay)]


def least_delay(model: Model, route: Route) -> int:
    """No value of the route is delayed by fewer steps."""
    return sum(int(delays.min()) for delays in delays_along(model, route))


def is_delayed(model: Model, route: Route) -> bool:
    return any(delays.any() for delays in delays_along(model, route))


def route_parts(model: Model, route: Route) -> dict[int, csr_matrix]:
    """Delay in steps -> the weights (target, origin), int64, that act with it. At least one entry.

    The product of all matrices on the way: pooling, weights, pooling. Every path from an element of the
    origin to one of the target falls into the part of its own delay.
    """
    parts = {0: identity(size_of(model.shapes[route.members[0].origin]), np.int64, format="csr")}
    for name in route.pre:
        parts = _pass_structure(model, name, parts)
    if route.weight is not None:
        weights = weight_matrix(model, route.weight)
        delayed = _delay_rows(parts, axonal_delays(model, route.weight))
        parts = {delay: weights @ part for delay, part in delayed.items()}
    for name in route.post:
        parts = _pass_structure(model, name, parts)
    shape = next(iter(parts.values())).shape
    tidy = {delay: _tidy(part) for delay, part in parts.items()}
    return {delay: part for delay, part in tidy.items() if part.nnz} or {0: csr_matrix(shape, dtype=np.int64)}


def _pass_structure(model: Model, name: str, parts: dict[int, csr_matrix]) -> dict[int, csr_matrix]:
    if isinstance(model.nodes[name], nir.Delay):
        return _delay_rows(parts, node_delays(model, name))
    pool = pool_matrix(model, name)
    return {delay: pool @ part for delay, part in parts.items()}


def _delay_rows(parts: dict[int, csr_matrix], steps: np.ndarray) -> dict[int, csr_matrix]:
    """Row i of every part arrives `steps[i]` steps later."""
    later: dict[int, csr_matrix] = {}
    for extra in np.unique(steps):
        chosen = diags((steps == extra).astype(np.int64), dtype=np.int64).tocsr()
        for delay, part in parts.items():
            rows = part if np.all(steps == extra) else chosen @ part
            key = delay + int(extra)
            later[key] = later[key] + rows if key in later else rows
    return later


def _tidy(matrix: csr_matrix) -> csr_matrix:
    matrix = matrix.tocsr()
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def by_origin(parts: dict[int, csr_matrix]) -> tuple[csr_matrix, np.ndarray] | None:
    """One matrix for all parts and the delay of each element of the origin; None where one has two."""
    columns = {delay: np.unique(part.indices) for delay, part in parts.items()}
    if sum(c.size for c in columns.values()) != np.unique(np.concatenate(list(columns.values()))).size:
        return None
    total = _tidy(sum(parts.values()))
    delays = np.zeros(total.shape[1], dtype=np.int64)
    for delay, used in columns.items():
        delays[used] = delay
    return total, delays


def wants_convolution(model: Model, route: Route, conv: str) -> bool:
    """True where Lava's Conv is asked for and means the same: it ignores exponents and has no delays."""
    if conv != "conv" or route.weight is None or not isinstance(model.nodes[route.weight], nir.Conv2d):
        return False
    if route.pre or route.post or is_delayed(model, route):
        return False
    return model.synapse(route.weight).weight_exp == 0
