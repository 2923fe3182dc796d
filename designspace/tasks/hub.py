"""Rows of a data set on the hub: from the local cache, else a download."""

from __future__ import annotations

from typing import Any

from designspace.errors import DataMissing
from designspace.tasks.csv_rows import read_csv_rows
from designspace.tasks.json_lines import Line, Numeral, read_json_lines


def hub_rows(repository: str, filename: str) -> list[Line]:
    """Return the rows of a JSON Lines, CSV or Parquet file; rows of Parquet count from 1.

    Raises:
        DataMissing: the hub cannot be reached, or has no such file.
        DeclarationError: the file breaks a rule of its form.
    """
    try:
        local = _from_hub(repository, filename)
    except Exception as error:  # the hub client has no common base class for "offline", "not found" and "no access"
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataMissing(
            f"cannot load {repository}/{filename} from the hub ({reason}); give a local file with path: FILE.jsonl"
        ) from error
    if filename.endswith(".parquet"):
        import pyarrow.parquet as pq

        rows: list[dict[str, Any]] = pq.read_table(local).to_pylist()
        return [Line(number, _with_numerals(row)) for number, row in enumerate(rows, start=1)]
    return read_csv_rows(local) if filename.endswith(".csv") else read_json_lines(local)


def _with_numerals(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose numbers are as JSON would have them."""
    return {
        name: Numeral(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        for name, value in row.items()
    }


def _from_hub(repository: str, filename: str) -> str:
    """Return the path of a hub file: the cached copy if there is one, else a download."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return hf_hub_download(repository, filename, repo_type="dataset", local_files_only=True)
    except LocalEntryNotFoundError:
        # Asked first because it fails at once without a network, where the download itself retries for half a minute.
        HfApi().dataset_info(repository, timeout=10)
        return hf_hub_download(repository, filename, repo_type="dataset")
