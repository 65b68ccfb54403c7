"""A tiny run on the embedded digits, shared by the end-to-end tests."""

import pytest

from snnkd_deploy.progress import set_quiet
from snnkd_deploy.recipe import make_recipe

TINY = {
    "name": "tiny",
    "chip": "loihi2",
    "method": ["seal", "ckd"],
    "data": {"name": "digits", "options": {"limit_train": 800}},
    "teacher": {"width": 0.25, "epochs": 4, "batch": 64},
    "student": {"width": 0.5, "steps": 3},
    "train": {"epochs": 5, "chip_epochs": 2, "batch": 64},
    "validate": {"backends": ["exact"], "samples": 40},
}


@pytest.fixture(autouse=True)
def talkative():
    """`--json` and `--quiet` silence a whole process; a test must not silence the next one."""
    yield
    set_quiet(False)


@pytest.fixture(scope="session")
def tiny_recipe():
    return make_recipe(TINY)


@pytest.fixture(scope="session")
def tiny_run(tiny_recipe, tmp_path_factory):
    """A finished run directory."""
    from snnkd_deploy.pipeline import Run

    run = Run(tmp_path_factory.mktemp("tiny") / "run", tiny_recipe, command="snnkd run tiny.toml")
    run.run_stages()
    return run
