"""The artefact "kv-sharer": which layers can use the keys and values of an earlier layer instead of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from designspace.axes import Needs
from designspace.cache.prefill_pass import PrefillPass
from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus
from designspace.models.calibration_stages import stage
from designspace.models.loading import LoadedModel
from designspace.models.one_look import Effort, apart
from families.head_routing.kv_sharer import owners_of

THRESHOLD = 0.5  # least cosine of the last hidden states with and without sharing
N_TEXTS, LENGTH = 30, 64  # as released: every candidate pair costs one run over them

Pair = tuple[int, int]


def _effort(loaded: LoadedModel, corpus: Corpus) -> Effort:
    n_layers, n_tokens = loaded.geometry.n_layers, min(corpus.n_tokens, N_TEXTS * LENGTH)
    of_token = 8 * int(loaded.model.config.hidden_size)
    of_token += 16 * n_layers * loaded.geometry.n_kv_heads * 2 * loaded.geometry.head_dim
    return Effort(n_tokens * (1 + n_layers * (n_layers - 1) // 2), 0, n_tokens * of_token)


@apart(_effort)
def measure(loaded: LoadedModel, corpus: Corpus) -> dict[str, Tensor]:
    """Return the accepted replacements in order, "pairs" [n,2] int64 (later, earlier), and their "cosine" [n].

    As in the released code, the post-RoPE keys and the values of 30 texts of 64 tokens are averaged over the texts,
    position by position. Pairs of layers are tried by the distance of these averages, the most different first. A pair
    is accepted if, on top of those before it, the last hidden states of the model keep a mean cosine above "threshold"
    [1] with the original ones; a text's hidden states count as one vector. Each layer is replaced at most once, and the
    first n accepted pairs are the greedy answer for n. Ties go to the lower layers.

    Deviations: of texts fewer than 30, further pieces are taken (the released code has thirty lines of text). A text
    shorter than the others takes no part in the averages; in the released code it is left out of the sums but counts in
    their divisor, which changes no order.

    Raises:
        CalibrationError: the model was trained with layers that share caches.
    """
    if loaded.kv_owners is not None:
        raise CalibrationError(
            "replacements need a model each of whose layers was trained with its own keys and values"
        )
    texts = texts_of(corpus)
    original = [_run(loaded, text) for text in texts]
    hidden = [states for _, states in original]
    distance = distances(mean_cache([_cache(seen) for seen, _ in original]))

    def similarity(owners: tuple[int, ...]) -> float:
        return mean_cosine([_run(loaded, text, owners)[1] for text in texts], hidden)

    pairs = ranked_pairs(distance)
    with stage("trying", len(pairs), "pairs of layers") as done:
        tried = (pair for pair in pairs if done(1) is None)
        found = list(accepted(tried, loaded.geometry.n_layers, similarity, THRESHOLD))
    return {
        "pairs": torch.tensor([pair for pair, _ in found], dtype=torch.int64).view(-1, 2),
        "cosine": torch.tensor([cosine for _, cosine in found], dtype=torch.float32),
        "threshold": torch.tensor([THRESHOLD]),
    }


def texts_of(corpus: Corpus) -> list[tuple[int, ...]]:
    """Return the beginnings of the first texts; if there are too few, their second pieces, and so on."""
    longest = max(map(len, corpus.texts), default=0)
    pieces = [ids[start : start + LENGTH] for start in range(0, longest, LENGTH) for ids in corpus.texts]
    return [piece for piece in pieces if piece][:N_TEXTS]


def mean_cache(caches: Sequence[Tensor]) -> Tensor:
    """Return the average of those caches [L,2,H_kv,N,D] that are as long as the longest, float64."""
    longest = max(cache.shape[3] for cache in caches)
    return torch.stack([cache.double() for cache in caches if cache.shape[3] == longest]).mean(dim=0)


def distances(mean: Tensor) -> Tensor:
    """Return how far apart the keys and values of layers are, [L,L] float64, from their averages [L,2,H_kv,N,D].

    The Euclidean distance of two vectors, averaged over heads and positions, and over keys and values.
    """
    return torch.stack([(mean - of_layer).norm(dim=-1).mean(dim=(1, 2, 3)) for of_layer in mean])


def ranked_pairs(distance: Tensor) -> list[Pair]:
    """Return all pairs (later, earlier) of layers by their distance [L,L], the largest first."""
    pairs = [(later, earlier) for later in range(distance.shape[0]) for earlier in range(later)]
    return sorted(pairs, key=lambda pair: -float(distance[pair]))


def accepted(
    pairs: Iterable[Pair], n_layers: int, similarity: Callable[[tuple[int, ...]], float], threshold: float
) -> Iterator[tuple[Pair, float]]:
    """Yield the pairs that keep the similarity above the threshold on top of those before, with the similarity.

    similarity: of the model in which layer l reads the cache of `owners[l]` to the original one.
    """
    so_far: list[Pair] = []
    for later, earlier in pairs:
        if any(later == replaced for replaced, _ in so_far):
            continue
        found = similarity(owners_of([*so_far, (later, earlier)], n_layers))
        if found > threshold:
            so_far.append((later, earlier))
            yield (later, earlier), found


def mean_cosine(hidden: Sequence[Tensor], original: Sequence[Tensor]) -> float:
    """Return the mean over texts of the cosine of hidden states [T,hidden], each text's taken as one vector."""
    alike = [
        functional.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0)
        for a, b in zip(hidden, original, strict=True)
    ]
    return float(torch.stack(alike).mean())


def _run(
    loaded: LoadedModel, text: tuple[int, ...], owners: tuple[int, ...] | None = None
) -> tuple[PrefillPass, Tensor]:
    """Run one text; return the pass and the last hidden states [T,hidden] float32."""
    seen = PrefillPass(Needs(), loaded.geometry, len(text), owners)
    tokens = torch.tensor([text], device=loaded.device)
    output = loaded.forward(seen, input_ids=tokens, logits_to_keep=1, output_hidden_states=True)
    return seen, output.hidden_states[-1][0].float()


def _cache(seen: PrefillPass) -> Tensor:
    """Return the keys and values of a text, [L,2,H_kv,T,D]."""
    prompt = seen.prompt()
    return torch.stack([prompt.keys[:, 0], prompt.values[:, 0]], dim=1).cpu()
