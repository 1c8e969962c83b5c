"""The report of a forecast as one HTML file, for people who do not run Drover: no script, nothing from elsewhere."""

from drover.cli.report.page import write_report

__all__ = ["write_report"]
