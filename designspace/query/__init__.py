"""Ask results questions: from Python with `designspace.open_results`, in SQL with `designspace query`."""

from designspace.query.results import Results, ResultsWarning, open_results

__all__ = ["Results", "ResultsWarning", "open_results"]
