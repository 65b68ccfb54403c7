"""A report onto the disk: `report.json` and `report.html`, both or an error, never half a file."""

from __future__ import annotations

from pathlib import Path

from snnkd_deploy.files import replacing
from snnkd_deploy.report.page import render_page
from snnkd_deploy.report.schema import Report


def write_report(report: Report, out_dir: str | Path, drawing: str = "") -> tuple[Path, Path]:
    """Write both files into `out_dir` (made if missing) and return their paths. `drawing`: the network as SVG.

    The page is rendered before anything is written, so an error leaves the files of an earlier run alone.
    """
    folder = Path(out_dir)
    html = render_page(report, drawing)
    text = report.to_json()
    folder.mkdir(parents=True, exist_ok=True)
    return write_atomically(folder / "report.json", text), write_atomically(folder / "report.html", html)


def write_atomically(path: Path, text: str) -> Path:
    """Replace `path` by `text` (UTF-8) in one step: a reader sees the old file or the new one."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path
