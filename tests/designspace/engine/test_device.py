"""Every strategy on a device: nothing is made on the wrong side, nothing read there, and the results are the host's."""

from __future__ import annotations

import pytest
import torch

from designspace.axes import Mechanism
from designspace.kernels.build import load_library
from designspace.models.calibrate import calibrate
from designspace.models.loading import load_model
from designspace.registry import calibration, calibrations
from tests.designspace.engine.pretend_device import DEVICE, PretendDevice, move_to_device, on_the_host
from tests.designspace.strategies import EVERY_STRATEGY, SPEC, run


@pytest.mark.parametrize("made", EVERY_STRATEGY)
def test_results_are_those_of_the_host(made: Mechanism, plain_path: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts, steps, events, refills and accounts, to the bit: the operations are the same, and so is the memory."""
    expected = run(load_model(SPEC), made, "plain")
    monkeypatch.delenv("DESIGNSPACE_KERNELS")
    load_library.cache_clear()
    loaded = load_model(SPEC)
    move_to_device(loaded.model)

    with PretendDevice():
        assert loaded.device == DEVICE
        assert run(loaded, made, "plain") == expected


@pytest.mark.parametrize("name", sorted(calibrations()))
def test_calibrations_are_those_of_the_host(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured of a model on a device is what is measured of it here."""
    measures = {name: calibration(name)}
    (expected,) = calibrate(SPEC, measures, n_problems=4)

    loaded = load_model(SPEC)
    move_to_device(loaded.model)
    monkeypatch.setattr("designspace.models.calibrate.load_model", lambda spec, device: loaded)
    with PretendDevice():
        (measured,) = calibrate(SPEC, measures, n_problems=4)
    assert measured.tensors.keys() == expected.tensors.keys()
    assert all(torch.equal(on_the_host(x), expected[key]) for key, x in measured.tensors.items())
