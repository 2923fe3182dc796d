"""The artefact "kv-sharer": which layers can use the keys and values of an earlier layer instead of their own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from designspace.axes import Needs
from designspace.cache.attention import PrefillPass
from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel
from families.head_routing.kv_sharer import owners_of

THRESHOLD = 0.5  # least cosine of the last hidden states with and without sharing
N_PIECES, PIECE = 30, 128  # short pieces of text, as published: every candidate pair costs one run over them


def measure(loaded: LoadedModel, corpus: Corpus) -> dict[str, Tensor]:
    """Return the accepted replacements in order, "pairs" [n,2] int64 (later, earlier), and their "cosine" [n].

    Pairs of layers are tried by the Euclidean distance of their mean keys and values, the most different first. A pair
    is accepted if, on top of those before it, the last hidden states of the model keep a mean cosine above "threshold"
    [1] with the original ones. Each layer is replaced at most once, and the first n accepted pairs are the greedy
    answer for n. The mean is over tokens of post-RoPE keys and of values, separately for each head. The cosine is per
    token, averaged over all tokens of at most 30 pieces of 128 tokens. Ties go to the lower layers.

    Raises:
        CalibrationError: the model was trained with layers that share caches.
    """
    if loaded.kv_owners is not None:
        raise CalibrationError(
            "replacements need a model each of whose layers was trained with its own keys and values"
        )
    pieces = pieces_of(corpus)
    original = [_run(loaded, piece) for piece in pieces]
    accepted: list[tuple[int, int]] = []
    cosines: list[float] = []
    for later, earlier in ranked_pairs(_mean_cache(loaded, [seen for seen, _ in original], pieces)):
        if any(later == replaced for replaced, _ in accepted):
            continue
        owners = owners_of([*accepted, (later, earlier)], loaded.geometry.n_layers)
        cosine = _mean_cosine(loaded, pieces, [hidden for _, hidden in original], owners)
        if cosine > THRESHOLD:
            accepted.append((later, earlier))
            cosines.append(cosine)
    return {
        "pairs": torch.tensor(accepted, dtype=torch.int64).view(-1, 2),
        "cosine": torch.tensor(cosines, dtype=torch.float32),
        "threshold": torch.tensor([THRESHOLD]),
    }


def pieces_of(corpus: Corpus) -> list[tuple[int, ...]]:
    """Return the first pieces of the texts, none across two texts."""
    pieces = [ids[start : start + PIECE] for ids in corpus.texts for start in range(0, len(ids), PIECE)]
    return pieces[:N_PIECES]


def ranked_pairs(means: Tensor) -> list[tuple[int, int]]:
    """Return all pairs (later, earlier) of layers by the distance of their vectors [L,n], the largest first."""
    pairs = [(later, earlier) for later in range(means.shape[0]) for earlier in range(later)]
    return sorted(pairs, key=lambda pair: -float((means[pair[0]] - means[pair[1]]).norm()))


def _run(
    loaded: LoadedModel, piece: tuple[int, ...], owners: tuple[int, ...] | None = None
) -> tuple[PrefillPass, Tensor]:
    """Run one piece; return the pass and the last hidden states [T,hidden] float32."""
    seen = PrefillPass(Needs(), loaded.geometry, len(piece), owners)
    tokens = torch.tensor([piece], device=loaded.device)
    output = loaded.forward(seen, input_ids=tokens, logits_to_keep=1, output_hidden_states=True)
    return seen, output.hidden_states[-1][0].float()


def _mean_cache(loaded: LoadedModel, passes: list[PrefillPass], pieces: list[tuple[int, ...]]) -> Tensor:
    """Return each layer's mean key and value of all heads, [L, 2 H_kv D] float64."""
    geometry = loaded.geometry
    total = torch.zeros(geometry.n_layers, 2 * geometry.n_kv_heads * geometry.head_dim, dtype=torch.float64)
    for seen in passes:
        prompt = seen.prompt()
        summed = [x[:, 0].double().sum(dim=2).flatten(1) for x in (prompt.keys, prompt.values)]  # [L, H_kv*D]
        total += torch.cat(summed, dim=1).cpu()
    return total / sum(len(piece) for piece in pieces)


def _mean_cosine(
    loaded: LoadedModel, pieces: list[tuple[int, ...]], original: list[Tensor], owners: tuple[int, ...]
) -> float:
    """Return the mean over tokens of the cosine of the last hidden states under sharing with the original ones."""
    alike = [
        functional.cosine_similarity(_run(loaded, piece, owners)[1], before, dim=-1)
        for piece, before in zip(pieces, original, strict=True)
    ]
    return float(torch.cat(alike).double().mean())
