"""One self-contained HTML page about one or more predictions directories; see `page.py`."""

from common.report.page import Report, build

__all__ = ["Report", "build"]
