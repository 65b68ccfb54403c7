"""What people and scripts get to see of a run: `report.json`, one offline HTML page, the terminal table."""

from snnkd_deploy.report.compare import compare_reports, comparison_table, render_comparison, write_comparison
from snnkd_deploy.report.schema import Report, report_schema
from snnkd_deploy.report.table import plain_table, render_table
from snnkd_deploy.report.write import write_report

__all__ = [
    "Report",
    "compare_reports",
    "comparison_table",
    "plain_table",
    "render_comparison",
    "render_table",
    "report_schema",
    "write_comparison",
    "write_report",
]
