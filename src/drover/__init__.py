"""Drover moves running virtual machines to another site while their applications keep working."""

__version__ = "0.1.0"
