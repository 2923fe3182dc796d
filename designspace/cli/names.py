"""Names where a path is asked for: `report quickstart` means `results/quickstart`, `run quickstart` the sweep that ships.

A path that exists is always taken as it is.
"""

from __future__ import annotations

from pathlib import Path

from designspace.errors import DeclarationError

_RESULTS = Path("results")


def results_folder(given: Path | None) -> Path | None:
    """Return the results folder of that name below `results`, where there is nothing of that name here."""
    if given is None or given.exists() or not _is_name(given):
        return given
    named = _RESULTS / given
    return named if named.is_dir() else given


def sweep_file(given: Path | None) -> Path | None:
    """Return the sweep of that name that ships with the package, where there is no file of that name here."""
    if given is None or given.exists() or not _is_name(given) or given.suffix:
        return given
    shipped = shipped_sweeps().get(given.name)
    return given if shipped is None else shipped


def sweep_or_results(given: Path | None) -> Path | None:
    """Return a results folder of that name, else a shipped sweep of that name."""
    found = results_folder(given)
    return found if found != given else sweep_file(given)


def shipped_sweeps() -> dict[str, Path]:
    """Return the sweep files that ship with the package, by their names without the suffix."""
    import sweeps

    return {path.stem: path for path in sorted(Path(sweeps.__file__).parent.glob("*.yaml"))}


def registration_file(given: Path) -> Path:
    """Return the newest registration of a study, named by its name or its results folder; a file is taken as it is.

    Raises:
        DeclarationError: the folder has no registration.
    """
    return _newest(given, "registration")


def report_file(given: Path) -> Path:
    """Return the newest report of a confirmation, as `registration_file` the registration.

    Raises:
        DeclarationError: the folder has no report of its newest registration.
    """
    return _newest(given, "report")


def _newest(given: Path, what: str) -> Path:
    folder = results_folder(given)
    if folder is None or not folder.is_dir():
        return given
    from cluster.evidence.folder import EvidenceFolder

    evidence = EvidenceFolder(folder)
    registered = [entry.registration for entry in evidence.ledger.entries() if entry.kind == "register"]
    if not registered:
        raise DeclarationError(f"{folder} has no registration: designspace register STUDY makes one")
    digits = Path(evidence.file(str(registered[-1]), "registration")).name.split(".")[0]
    found = sorted(evidence.path.glob(f"{digits}*.{what}.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise DeclarationError(f"{folder} has no {what} of its newest registration, {digits}")
    return found[-1]


def _is_name(path: Path) -> bool:
    return len(path.parts) == 1 and not path.is_absolute() and path.name not in ("", ".", "..")
