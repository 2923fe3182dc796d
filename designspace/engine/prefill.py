"""Prompts through the model: in fixed shapes, ahead of need, and each distinct prompt once.

Prompts of one length bucket run together, always as many as the bucket's shape has room for (a missing one is a repetition),
so a prompt's numbers do not depend on which others it met. Its attention runs on its own, over its own keys. What was
computed ahead, or is asked for again by another sample of the same problem, is kept until its row is free.

Where prefill is chunked, a longer prompt comes in chunks, so that only its keys and values grow with its length. Each chunk
attends to the whole prompt before it, and so says what one long pass would, up to rounding.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor

from designspace.axes import Artefact, Needs, Request
from designspace.cache.packing import Prompt
from designspace.cache.prefill_pass import PrefillPass, PrefillPasses
from designspace.models.loading import LoadedModel

_BUCKET = 16  # prompts are padded to a multiple of this
_MOST_PROMPTS = 8  # per pass …
_MOST_TOKENS = 2048  # … and as many as keep a pass within so many tokens, padding included
_MOST_KEPT = 64  # prompts whose keys and values wait for a row …
_MOST_KEPT_TOKENS = 16_384  # … and as many of a bucket as have so many tokens, but a pass at least
_LOOK_AHEAD = 256  # requests

TokenIds = tuple[int, ...]
Encoded = tuple[Prompt, Tensor]


def bucket(n_tokens: int) -> int:
    """Return the padded length of a prompt."""
    return -(-n_tokens // _BUCKET) * _BUCKET


def prompts_per_pass(padded: int) -> int:
    """Return how many prompts of a bucket run together."""
    return max(1, min(_MOST_PROMPTS, _MOST_TOKENS // padded))


def prompts_kept(padded: int) -> int:
    """Return how many prompts wait for a row when the last one was of this bucket."""
    return max(prompts_per_pass(padded), min(_MOST_KEPT, _MOST_KEPT_TOKENS // padded))


class Prefill:
    """Encodes prompts for one engine."""

    def __init__(
        self,
        loaded: LoadedModel,
        needs: Needs,
        owners: tuple[int, ...] | None,
        projection: Tensor | None,
        artefacts: Mapping[str, Artefact] | None = None,
        chunk: int | None = None,
    ) -> None:
        """Encode with what the strategies need.

        artefacts: where gates find their weights. chunk: the most tokens of one prompt that go through the model at once, a
        multiple of 16; None: all of them.
        """
        self._chunk = chunk
        self.loaded, self.needs, self.owners, self._projection = loaded, needs, owners, projection
        self._artefacts = artefacts or {}
        self._sentence_ends = loaded.last_tokens(needs.sentences)
        self._encoded: OrderedDict[TokenIds, Encoded] = OrderedDict()
        self._asked: Counter[TokenIds] = Counter()
        self.n_encoded = 0

    @property
    def n_waiting(self) -> int:
        """Encoded prompts that wait for a row."""
        return len(self._encoded)

    def announce(self, requests: Iterable[Request]) -> None:
        """Learn which prompts will be asked for, and how often."""
        self._asked = Counter(request.prompt_ids for request in requests)

    def forget(self) -> None:
        """Drop all prompts and all that was announced."""
        self._encoded.clear()
        self._asked.clear()

    def pop_prompt(self, queue: Sequence[Request]) -> Encoded:
        """Return the first request's prompt and the logits [1,V] after it; keep both if they are asked for again."""
        wanted = queue[0].prompt_ids
        if wanted not in self._encoded:
            together = self._companions(queue)
            self._encoded.update(zip(together, self._run(together), strict=True))
            while len(self._encoded) > prompts_kept(bucket(len(wanted))):  # the oldest are encoded again if need be
                self._encoded.popitem(last=next(iter(self._encoded)) == wanted)
        self._asked[wanted] -= 1
        return self._encoded[wanted] if self._asked[wanted] > 0 else self._encoded.pop(wanted)

    def encode(self, token_ids: TokenIds) -> Encoded:
        """Encode one text that nobody announced."""
        return self._run([token_ids])[0]

    def _companions(self, queue: Sequence[Request]) -> list[TokenIds]:
        """Return the first request's prompt and others of its bucket that come soon, as many as run together."""
        padded = bucket(len(queue[0].prompt_ids))
        together: dict[TokenIds, None] = {}
        for request in islice(queue, _LOOK_AHEAD):
            ids = request.prompt_ids
            if ids and bucket(len(ids)) == padded and ids not in self._encoded:
                together[ids] = None
            if len(together) == prompts_per_pass(padded):
                break
        return list(together)

    def _run(self, prompts: Sequence[TokenIds]) -> list[Encoded]:
        """Run prompts of one bucket through the model: together in one pass, or each in chunks."""
        padded = bucket(len(prompts[0]))
        if self._chunk is None or padded <= self._chunk:  # a rule of the bucket: all of its prompts run alike
            encoded = self._pass(prompts, prompts_per_pass(padded))
        else:
            encoded = [self._in_chunks(prompt, self._chunk) for prompt in prompts]
        self.n_encoded += len(prompts)
        return encoded

    def _in_chunks(self, prompt: TokenIds, chunk: int) -> Encoded:
        text, logits = self.encode_block(prompt[:chunk])
        for start in range(chunk, len(prompt), chunk):
            text, logits = self.encode_block(prompt[start : start + chunk], text)
        return text, logits

    def encode_block(self, token_ids: TokenIds, before: Prompt | None = None) -> Encoded:
        """Return a text together with what is held of it before these tokens, and the logits [1,V] after them."""
        return self._pass([token_ids], 1, before)[0]

    def _pass(self, texts: Sequence[TokenIds], n_rows: int, before: Prompt | None = None) -> list[Encoded]:
        """Run texts of one bucket, or a block of one text with something before it, through the model in one pass.

        n_rows: what belongs to the pass's shape; there are as many texts at most.
        """
        padded, device = bucket(len(texts[0])), self.loaded.device
        rows = [*texts, *[texts[0]] * (n_rows - len(texts))]
        ids = torch.zeros(n_rows, padded, dtype=torch.long)
        for row, text in enumerate(rows):
            ids[row, : len(text)] = torch.tensor(text)
        last = torch.tensor([len(text) - 1 for text in rows], device=device)
        start = 0 if before is None else before.n_tokens
        passes = [PrefillPass(self.needs, self.loaded.geometry, len(text), self.owners, before) for text in texts]
        output = self.loaded.forward(
            PrefillPasses(passes),
            input_ids=ids.to(device),
            position_ids=torch.arange(start, start + padded, device=device).expand(n_rows, -1),
            logits_to_keep=last,
            output_hidden_states=self.needs.layer_cosine or self.needs.hidden_states,
        )
        if self.needs.layer_cosine and self._projection is not None:
            for row, one in enumerate(passes):
                one.record_layer_cosines(tuple(x[row : row + 1] for x in output.hidden_states), self._projection)
        if self.needs.gates:
            inputs = self.loaded.attention_inputs(output.hidden_states)
            for row, one in enumerate(passes):
                one.record_gates([x[row : row + 1] for x in inputs], self._artefacts)
        if self.needs.sentences:
            for row, (one, ids_of) in enumerate(zip(passes, texts, strict=True)):
                ends = [place for place, token in enumerate(ids_of) if token in self._sentence_ends]
                one.record_sentences(output.hidden_states[-1][row : row + 1], ends)
        return [(one.prompt(), output.logits[row : row + 1, row].clone()) for row, one in enumerate(passes)]
