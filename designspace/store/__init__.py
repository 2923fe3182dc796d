"""The results store: immutable Parquet shards named by content, grades beside them, one dataset to read."""

from designspace.store.export import export_results
from designspace.store.layout import ShardKey
from designspace.store.results import DamagedFilesWarning, Failure, Results, ResultsStore, open_results
from designspace.store.scan import DamagedFile
from designspace.store.schema import GRADES_SCHEMA, RESULTS_SCHEMA, SAMPLES_SCHEMA

__all__ = [
    "GRADES_SCHEMA",
    "RESULTS_SCHEMA",
    "SAMPLES_SCHEMA",
    "DamagedFile",
    "DamagedFilesWarning",
    "Failure",
    "Results",
    "ResultsStore",
    "ShardKey",
    "export_results",
    "open_results",
]
