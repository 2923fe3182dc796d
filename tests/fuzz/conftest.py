"""No damaged file may wait for a hub."""

from __future__ import annotations

from typing import NoReturn

import pytest


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("designspace.tasks.hub._from_hub", _unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def _unreachable(*_: object) -> NoReturn:
    raise ConnectionError("no hub in tests")
