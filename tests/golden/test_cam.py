"""CaM against the authors' two codes and kvpress, with their draws.

Ours merges the token that leaves. The evaluation code merges the one after it, which is attended to for another step: so
that token is the one that leaves here. In all else ours follows them, in the divisor of 32 too, however few share.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from designspace.axes import View
from designspace.testing.views import view_of
from families.representation import cam
from families.representation.cam import CaM
from tests.golden.cases import collection_files, read


def merged_values(
    form: CaM, view: View, keep: Tensor, draws: Tensor, monkeypatch: pytest.MonkeyPatch
) -> tuple[Tensor, Tensor]:
    """Return the values [H,C,D] after an event with these draws [H,C], and the probabilities of a merge [H,C]."""
    monkeypatch.setattr(cam, "_draws", lambda _: draws[None, None].expand(keep.shape))
    shares = keep.sum(dim=-1)
    following = keep.cumsum(dim=-1)
    chance = form._chance(view, keep, following, shares[..., None] - following)
    return form.merge_evicted(view, torch.zeros(keep.shape), shares, keep).values[0, 0], chance[0, 0]


@pytest.mark.parametrize("file", collection_files("cam", "harness_*.safetensors"))
def test_evaluation_code(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step by step: the probability by the newest query's attention, and the values."""
    tensors, meta = read(file)
    p, values = meta["parameters"], tensors["values"].clone()
    for step in range(p["steps"]):
        n = p["prompt"] + step + 1
        leaving = n - p["recent"] + 1
        held = [*range(p["sinks"]), *range(leaving, n)]
        view = view_of(values[None, None, :, held], last=tensors["attention"][step][None, None][..., held])
        keep = (torch.tensor(held) != leaving).expand(view.positions.shape)
        draws = tensors["draws"][step][:, None].expand(-1, len(held))
        after, chance = merged_values(CaM(spread=p["merge_window"]), view, keep, draws, monkeypatch)
        values[:, held] = after

        expected, tolerance = tensors["merge_probability"][step], meta["tolerance"]
        assert torch.allclose(chance[:, p["sinks"]], expected, atol=tolerance["probability_abs"], rtol=0)
        assert torch.allclose(values[:, :n], tensors["values_after"][step][:, :n], atol=tolerance["values_abs"], rtol=0)


@pytest.mark.parametrize("file", collection_files("cam", "stream_*.safetensors"))
def test_streaming_code(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step by step: by the attention that was accumulated since the first of them."""
    tensors, meta = read(file)
    p, values = meta["parameters"], tensors["values"].clone()
    form = CaM(spread=p["merge_window"], attention="accumulated", compared="next")
    held = list(range(p["prompt"]))
    accumulated = torch.zeros_like(tensors["attention"][0])
    for step in range(p["steps"]):
        held.append(p["prompt"] + step)
        accumulated += tensors["attention"][step]
        leaving = held[p["sinks"]]
        view = view_of(values[None, None, :, held], accumulated=accumulated[None, None][..., held])
        keep = (torch.tensor(held) != leaving).expand(view.positions.shape)
        draws = tensors["draws"][step][:, None].expand(-1, len(held))
        after, chance = merged_values(form, view, keep, draws, monkeypatch)
        values[:, held] = after
        held.remove(leaving)

        expected, tolerance = tensors["merge_probability"][step], meta["tolerance"]
        assert torch.allclose(chance[:, p["sinks"]], expected, atol=tolerance["probability_abs"], rtol=0)
        there = tensors["values_after"][step][:, held]
        assert torch.allclose(values[:, held], there, atol=tolerance["values_abs"], rtol=0)


@pytest.mark.parametrize("file", collection_files("cam", "kvpress_*.safetensors"))
def test_kvpress(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many that are evicted, those with the highest scores are merged, and divided by the tokens that there are.

    Ours merges all of them, so the others are left out here.
    """
    tensors, meta = read(file)
    p, mean = meta["parameters"], tensors["scores"].mean(dim=0)
    kept = tensors["kept"].tolist()
    evicted = sorted((i for i in range(p["n"]) if i not in kept), key=lambda i: -float(mean[i]))[: p["merge_count"]]
    held = sorted([*kept, *evicted])
    view = view_of(tensors["values"][None, None, :, held], accumulated=tensors["attention_sum"][None, None][..., held])
    is_kept = torch.tensor([i in kept for i in held])
    draws = torch.ones(p["kv_heads"], len(held))
    draws[:, ~is_kept] = tensors["draws"]
    form = CaM(p["merge_window"], attention="accumulated", compared="next", divisor="present", at_prompt=True)
    after, chance = merged_values(form, view, is_kept.expand(view.positions.shape), draws, monkeypatch)

    tolerance, has_window = meta["tolerance"], torch.tensor([i < max(kept) for i in sorted(evicted)])
    found, expected = (x[:, has_window] for x in (chance[:, ~is_kept], tensors["merge_probability"]))
    assert torch.allclose(found, expected, atol=tolerance["probability_abs"], rtol=0)
    assert torch.allclose(after[:, is_kept], tensors["values_after"], atol=tolerance["values_abs"], rtol=0)
