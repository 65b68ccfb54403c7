"""The page's figures: matplotlib without a display, as SVG that follows the page's colours."""

from snnkd_deploy.report.plots.accuracy import plot_accuracy, plot_confusion, plot_per_step, plot_steps_of_runs
from snnkd_deploy.report.plots.activity import plot_cores, plot_raster, plot_rates, plot_sops
from snnkd_deploy.report.plots.energy import plot_energy_overview, plot_energy_terms
from snnkd_deploy.report.plots.learning import plot_firing, plot_learning, plot_losses, plot_pareto
from snnkd_deploy.report.plots.maps import heat_png, image_png, is_flat
from snnkd_deploy.report.plots.style import Plot

__all__ = [
    "Plot",
    "heat_png",
    "image_png",
    "is_flat",
    "plot_accuracy",
    "plot_confusion",
    "plot_cores",
    "plot_energy_overview",
    "plot_energy_terms",
    "plot_firing",
    "plot_learning",
    "plot_losses",
    "plot_pareto",
    "plot_per_step",
    "plot_raster",
    "plot_rates",
    "plot_sops",
    "plot_steps_of_runs",
]
