"""The report: one self-contained HTML page made from a `Result`, and from nothing else."""

from simulator.report.page import render_report

__all__ = ["render_report"]
