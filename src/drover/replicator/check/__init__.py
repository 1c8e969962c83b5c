"""Whether a migration can be done, before anything is changed: the source, the destination, the way between them."""

from drover.replicator.check.checks import check
from drover.replicator.check.report import Finding, Report

__all__ = ["Finding", "Report", "check"]
