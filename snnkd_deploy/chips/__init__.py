"""Chips: their arithmetic, grids, limits and prices, read from `hardware/*.toml`."""

from snnkd_deploy.chips.load import hardware_dir, list_chips, load_chip
from snnkd_deploy.chips.spec import ChipSpec, IntGrid, NeuronSpec, Quantity

__all__ = ["ChipSpec", "IntGrid", "NeuronSpec", "Quantity", "hardware_dir", "list_chips", "load_chip"]
