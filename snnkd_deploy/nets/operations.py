"""Which operations of a chip file a student needs, and what is missing."""

from __future__ import annotations

from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.errors import Problem
from snnkd_deploy.nets.population import Population
from snnkd_deploy.nets.student import Student
from snnkd_deploy.nets.synapse import Synapse


def operations_lacking(student: Student, chip: ChipSpec) -> list[Problem]:
    """A problem for everything in the student that the chip cannot run, with the chip file's reason."""
    problems = []
    for population in student:
        for where, operation in _needed(population):
            reason = chip.lacks(operation)
            if reason is not None:
                problems.append(Problem(f"{chip.id} cannot run '{operation}': {reason}", where))
    return problems


def _needed(population: Population) -> list[tuple[str, str]]:
    lif = population.lif
    kind = "integrator" if lif is None else "cuba_lif" if lif.leak_u > 0 else "if" if lif.leak_v == 1 else "lif"
    needed = [(population.name, kind)]
    if population.host_levels:
        needed.append((population.name, "host_current"))
        return needed
    if population.recurrent is not None:
        needed.append((population.name, "recurrent"))
    if len(population.feeders) > 1:
        needed.append((population.name, "residual"))
    for synapse in population.synapses:
        assert isinstance(synapse, Synapse)
        needed.append((synapse.name, "conv2d" if synapse.is_conv else "linear"))
        if synapse.groups > 1:
            needed.append((synapse.name, "groups"))
    return needed
