"""Pillow, imported on use: the one file that knows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from snnkd_deploy.errors import DataError


def open_image(path: Path, mode: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """The image at `path` as uint8: (H, W) in mode "L", (H, W, 3) in mode "RGB". `size` (H, W): resized to it
    (bilinear with antialiasing). `DataError` if Pillow is missing or cannot read the file."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("reading images needs Pillow", where=str(path), remedy="pip install pillow") from error
    try:
        with Image.open(path) as image:
            converted = image.convert(mode)
            if size is not None and converted.size != (size[1], size[0]):
                converted = converted.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            return np.asarray(converted, dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow reports damaged files with any of these, SyntaxError for a broken PNG among them.
        raise DataError(f"not a readable image: {error}", where=str(path)) from error


def image_facts(path: Path) -> tuple[int, int, bool]:
    """(H, W, true where it has no colours) from the file's head. `DataError` as `open_image`."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("reading images needs Pillow", where=str(path), remedy="pip install pillow") from error
    try:
        with Image.open(path) as image:
            return image.height, image.width, image.mode in ("1", "L", "LA", "I", "I;16", "F")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"not a readable image: {error}", where=str(path)) from error
