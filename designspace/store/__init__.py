"""The results store: immutable Parquet shards named by content, grades beside them, one dataset to read."""

from designspace.store.aside import SetAside
from designspace.store.documents import Failure
from designspace.store.examine import Finding
from designspace.store.export import export_results
from designspace.store.layout import ShardKey
from designspace.store.listing import DamagedFile
from designspace.store.reader import DamagedFilesWarning
from designspace.store.results_store import ResultsStore
from designspace.store.schema import GRADES_SCHEMA, RESULTS_SCHEMA, SAMPLES_SCHEMA

__all__ = [
    "GRADES_SCHEMA",
    "RESULTS_SCHEMA",
    "SAMPLES_SCHEMA",
    "DamagedFile",
    "DamagedFilesWarning",
    "Failure",
    "Finding",
    "ResultsStore",
    "SetAside",
    "ShardKey",
    "export_results",
]
