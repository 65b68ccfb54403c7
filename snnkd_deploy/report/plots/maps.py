"""Small arrays as pictures: an image, and where teacher and student look at it."""

from __future__ import annotations

import base64
import io

import numpy as np
from matplotlib import colormaps
from matplotlib.image import imsave

from snnkd_deploy.report.schema import Grid2D


def heat_png(values: Grid2D) -> str:
    """A map of 0..1 as a data URI. Cividis: one hue order for every kind of colour vision, and in grey."""
    return _data_uri(colormaps["cividis"](np.clip(np.asarray(values, dtype=float), 0, 1)))


def is_flat(values: Grid2D) -> bool:
    """No place of the map stands out: a network without a spike in the layer, or without a sign of the class."""
    return float(np.ptp(np.asarray(values, dtype=float))) == 0.0


def image_png(values: Grid2D | tuple[Grid2D, ...]) -> str:
    """A grey (H, W) or colour (3, H, W) image of 0..1 as a data URI."""
    array = np.clip(np.asarray(values, dtype=float), 0, 1)
    rgb = np.repeat(array[..., None], 3, axis=-1) if array.ndim == 2 else np.moveaxis(array, 0, -1)
    return _data_uri(rgb)


def _data_uri(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    imsave(buffer, np.ascontiguousarray(pixels), format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
