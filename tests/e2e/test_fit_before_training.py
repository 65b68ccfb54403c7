"""A network that cannot fit its chip is refused before anything is trained or written."""

import pytest

from snnkd_deploy.errors import RecipeError
from snnkd_deploy.pipeline import Run
from snnkd_deploy.recipe import make_recipe


def recipe(hidden):
    return make_recipe(
        {
            "chip": "speck2f",
            "method": ["kd"],
            "data": {"name": "digits", "options": {"limit_train": 100}},
            "student": {"net": "mlp", "encoding": "counts", "leak": 1.0, "options": {"hidden": [hidden]}},
            "validate": {"backends": ["exact"]},
        }
    )


def test_too_wide_for_every_core(tmp_path):
    """8 x 8 taps to 2048 outputs: 2^(6 + 11) words of kernels, and the largest core has 64 Ki."""
    with pytest.raises(RecipeError) as caught:
        Run(tmp_path / "run", recipe(2048))
    found = {problem.what: problem for problem in caught.value.problems}
    memory = found["no core has the kernel memory that the layer needs"]
    assert (memory.where, memory.need, memory.have) == ("lif0", "128 Ki words", "64 (speck2f)")
    assert memory.remedy
    assert found["over the limit: channels"].need == "2048"
    assert not (tmp_path / "run").exists()


def test_what_fits_is_let_through(tmp_path):
    assert Run(tmp_path / "run", recipe(64)).chip.id == "speck2f"
