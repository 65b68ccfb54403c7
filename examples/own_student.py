"""Your own student: a function that takes the plan and adds populations. It trains, lowers and runs like the zoo's.

    snnkd run RECIPE.toml student.net=examples/own_student.py:two_paths --out runs/own

A population is LIF neurons with everything that ends in them. Currents of several synapses add up in front of the
neurons, so branches and skips cost nothing on the chip; between populations everything is a spike.
"""

import sys

from snnkd_deploy.data import load_dataset
from snnkd_deploy.lower import lower_student
from snnkd_deploy.nets.builder import Builder, StudentPlan
from snnkd_deploy.nets.student import Student


def two_paths(plan: StudentPlan) -> Student:
    """A 3x3 and a 1x1 path that meet in one population; `student.width` scales the channels."""
    build = Builder(plan)
    stem = build.conv("0", "input", plan.channels(16), stride=1)
    wide, shape = build.conv_synapse("wide", stem, plan.channels(32), kernel=3, stride=2)
    narrow, _ = build.conv_synapse("narrow", stem, plan.channels(32), kernel=1, stride=2)
    merged = build.add("merged", shape, [(stem, wide), (stem, narrow)])
    head = build.dense("_head", merged, plan.channels(64), pool=True)
    return build.finish(head)


def main() -> None:
    """Without training: what the function builds, on Loihi 2's grid."""
    import snnkd_deploy as sd

    data = load_dataset("digits")
    student = two_paths(StudentPlan("own", tuple(data.shape), len(data.classes), data.levels, steps=4))
    student.eval().to_chip(sd.load_chip("loihi2"))
    model = lower_student(student)
    mapping = sd.fit(model, sd.load_chip("loihi2"))
    print(f"{len(model.spiking)} populations on {mapping.cores} cores: {', '.join(model.spiking)}")


if __name__ == "__main__":
    sys.exit(main())
