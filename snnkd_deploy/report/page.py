"""The offline HTML page of a report."""

from __future__ import annotations

import html

from snnkd_deploy.report.schema import Report


def render_page(report: Report) -> str:
    """The page as one string."""
    return f"<!doctype html><meta charset=utf-8><title>report</title><pre>{html.escape(report.to_json())}</pre>"
