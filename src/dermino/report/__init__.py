"""What an evaluation found, as one page that can be shown to colleagues."""

from dermino.report.page import report

__all__ = ["report"]
