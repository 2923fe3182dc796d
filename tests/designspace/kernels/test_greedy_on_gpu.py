"""The greedy loop in Triton: against the plain loop on a GPU or in the interpreter, and compiled for a GPU without one."""

from __future__ import annotations

import os

import pytest
import torch

from families.scoring.selectors.diversity import Penalised
from families.scoring.selectors.greedy_loop import mask_of, pick
from tests.designspace.kernels.greedy_case import greedy_case

pytest.importorskip("triton", reason="Triton is not installed: make test-triton")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
runs = pytest.mark.skipif(not (INTERPRETED or torch.cuda.is_available()), reason="neither a GPU nor TRITON_INTERPRET=1")
compiles = pytest.mark.skipif(INTERPRETED, reason="interpreted kernels are not compiled")


@runs
@pytest.mark.parametrize("n_slots", [1, 33, 64])
@pytest.mark.parametrize("floor", [True, False])
@pytest.mark.parametrize("seeded", [True, False])
def test_picks_what_the_loop_picks(n_slots: int, floor: bool, seeded: bool) -> None:
    """Equal masks, and no more than the candidates where a head is asked for more."""
    from designspace.kernels.greedy_on_gpu import greedy_on_gpu

    device = torch.device("cpu" if INTERPRETED else "cuda")
    features, scores, candidates, seeds, n_picks = (x.to(device) for x in greedy_case(n_slots, seeded=seeded))
    start = Penalised(features, scores, seeds, 1.5, floor=floor)
    inputs = (features, 1.5, scores, start.penalty, start.penalised, candidates)

    expected = mask_of(pick(Penalised(features, scores, seeds, 1.5, floor=floor), candidates, n_picks), n_slots)
    assert torch.equal(greedy_on_gpu(*inputs, n_picks), expected)
    assert torch.equal(greedy_on_gpu(*inputs, n_picks + n_slots), candidates)


@compiles
@pytest.mark.parametrize("padded", [256, 4096])
def test_compiles_for_a_gpu(padded: int) -> None:
    """For compute capability 9.0, down to machine code; no GPU is needed for that."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from designspace.kernels.greedy_on_gpu import _loop

    floats = dict.fromkeys(("features", "scores", "penalty", "gain"), "*fp32")
    signature = {
        **floats, "candidates": "*i8", "n_picks": "*i64", "chosen": "*i8",
        "weight": "fp32", "n_slots": "i32", "dim": "i32", "PADDED": "constexpr",
    }  # fmt: skip
    source = ASTSource(fn=_loop, signature=signature, constexprs={"PADDED": padded})

    compiled = compile(source, target=GPUTarget("cuda", 90, 32))

    assert "ld.global" in compiled.asm["ptx"]
    assert compiled.asm["cubin"]
