"""What netx and Lava make of dense weights: the known traps, and Lava's own functions on random matrices."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkd_deploy.graph.netx_weights import changed_by_netx, effective_dense


@pytest.mark.parametrize(
    ("weight", "acts_as"),
    [
        ([[-4, 0], [-2, 0]], [[-3, 0], [-2, 0]]),
        ([[-8, -2], [-6, -4]], [[-6, -2], [-6, -4]]),
        ([[-256, -1]], [[-255, -1]]),
        ([[-256, -2]], [[-254, -2]]),
        ([[300, -2]], [[254, -2]]),
        ([[-3, 5]], [[-3, 5]]),
        ([[-255, 254]], [[-255, 254]]),
        ([[255, 0, 3]], [[255, 0, 3]]),
    ],
)
def test_effective_integers(weight, acts_as):
    assert effective_dense(np.array(weight)).parts[0].tolist() == acts_as


@pytest.mark.parametrize("weight", [[[0, 0]], [[256, 0]], [[-300, -1]], [[-200, 0]]])
def test_what_netx_cannot_load_is_an_error_or_right(weight):
    weight = np.array(weight)
    try:
        effective_dense(weight)
    except ValueError as error:
        assert "zero" in str(error) or "beyond 8 bits" in str(error)
    else:
        assert weight.min() == -200


def test_writer_hears_of_nine_bits():
    assert "9 bits" in changed_by_netx(np.array([[129, -2]]))
    assert changed_by_netx(np.array([[130, -2]])) == ""
    assert changed_by_netx(np.array([[127, -3]])) == ""
    assert "power of two" in changed_by_netx(np.array([[-4, 0]]))


matrices = st.integers(1, 4).flatmap(
    lambda columns: st.lists(
        st.lists(st.integers(-270, 270), min_size=columns, max_size=columns), min_size=1, max_size=4
    )
)


@pytest.mark.skipif(importlib.util.find_spec("lava") is None, reason="lava-nc is not installed")
@settings(max_examples=200, deadline=None)
@given(matrices, st.sampled_from([1, 2, 4]), st.booleans())
def test_lava_agrees(rows, unit, non_positive):
    from snnkd_deploy.backends.lava.shim import import_lava

    import_lava()
    from lava.utils.weightutils import clip_weights, determine_sign_mode, truncate_weights
    from run_lava_net import netx_format

    weight = np.array(rows) * unit
    if non_positive:
        weight = -np.abs(weight)
    try:
        mine = effective_dense(weight)
    except ValueError:
        return
    stored, bits, exponent = netx_format(weight)
    mode = determine_sign_mode(stored)
    lava = truncate_weights(clip_weights(stored, mode, num_bits=8), mode, bits)
    assert (mine.bits, mine.exponent) == (bits, exponent)
    assert np.array_equal(mine.parts[0], lava >> -exponent)
