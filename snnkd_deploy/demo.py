"""The recipe of `snnkd demo`: real handwritten digits, distilled for Loihi 2, checked on Lava."""

from __future__ import annotations

from snnkd_deploy.recipe import Recipe, make_recipe

DEMO = {
    "name": "demo",
    "chip": "loihi2",
    "method": ["seal", "ckd"],
    "data": {"name": "digits"},
    "teacher": {"net": "cnn", "width": 0.5, "epochs": 25},
    "student": {"net": "conv", "steps": 4},
    "train": {"epochs": 30, "chip_epochs": 15},
    "validate": {"backends": ["exact", "lava"], "samples": 360},
}


def demo_recipe() -> Recipe:
    return make_recipe(DEMO, where="demo")
