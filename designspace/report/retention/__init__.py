"""The retention map: what the cache held of a text, as a page to look at."""

from designspace.report.retention.page import retention_page, write_retention_page

__all__ = ["retention_page", "write_retention_page"]
