"""Files: both or none, and never half of one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from snnkd_deploy.report import Report, write, write_report


def test_writes_both_files(minimal: Report, tmp_path: Path) -> None:
    json_path, html_path = write_report(minimal, tmp_path / "new" / "run")
    assert json_path == tmp_path / "new" / "run" / "report.json"
    assert Report.from_json(json_path.read_bytes()) == minimal
    assert html_path.read_text("utf-8").startswith("<!doctype html>")
    assert sorted(p.name for p in json_path.parent.iterdir()) == ["report.html", "report.json"]


def test_a_failing_page_leaves_the_old_files(minimal: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_report(minimal, tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def broken(report: Report, drawing: str) -> str:
        raise RuntimeError("no page")

    monkeypatch.setattr(write, "render_page", broken)
    with pytest.raises(RuntimeError):
        write_report(minimal.model_copy(update={"name": "other"}), tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write.write_atomically(tmp_path / "a.txt", "old")

    def full_disk(fd: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        write.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX file modes")
def test_files_are_as_readable_as_others(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        path = write.write_atomically(tmp_path / "a.txt", "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_the_drawing_of_the_network_stands_on_the_page(minimal: Report, tmp_path: Path) -> None:
    _, page = write_report(minimal, tmp_path, drawing='<svg class="net"><title>ours</title></svg>')
    assert '<svg class="net"><title>ours</title></svg>' in page.read_text("utf-8")
    _, page = write_report(minimal, tmp_path)
    assert "Drawing of the network" not in page.read_text("utf-8")
