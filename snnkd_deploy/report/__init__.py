"""What people and scripts get to see of a run: `report.json`, one offline HTML page, the terminal table."""

from snnkd_deploy.report.schema import Report, report_schema
from snnkd_deploy.report.write import write_report

__all__ = ["Report", "report_schema", "write_report"]
