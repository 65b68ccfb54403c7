"""Does it fit, and where: layers cut into blocks, blocks on cores, cores on the mesh."""

from snnkd_deploy.evaluate.mapping.greedy import constraints_for, fit
from snnkd_deploy.evaluate.mapping.outline import check_fit, outline
from snnkd_deploy.evaluate.mapping.report import FitReport, Tile

__all__ = ["FitReport", "Tile", "check_fit", "constraints_for", "fit", "outline"]
