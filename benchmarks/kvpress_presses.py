"""kvpress cutting a prompt, asked through JSON lines: what it kept, by which scores, and what the model then wrote.

Runs in kvpress' own environment. A press is used as kvpress' documentation shows for `generate`: the whole prompt is read with
the press on, every layer is cut right after its own attention, and the text goes on with the cut cache. Nothing of kvpress is
changed; its scores and its result are noted as they pass.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import kvpress
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from benchmarks.json_lines import serve

PRESSES = {
    "knorm": kvpress.KnormPress,
    "streaming-llm": kvpress.StreamingLLMPress,
    "snapkv": kvpress.SnapKVPress,
    "tova": kvpress.TOVAPress,
    "keydiff": kvpress.KeyDiffPress,
    "expected-attention": kvpress.ExpectedAttentionPress,
}


class Noted:
    """What a press does in each layer of one prompt: scores [H_kv,n], and positions [H_kv,c] of what it keeps, in order."""

    def __init__(self, press: Any) -> None:
        self.scores: list[Tensor] = []
        self.kept: list[Tensor] = []
        self._score, self._compress = press.score, press.compress
        press.score, press.compress = self.score, self.compress

    def score(self, *arguments: Any, **named: Any) -> Tensor:
        """Score, and note it."""
        self.scores.append(self._score(*arguments, **named))
        return self.scores[-1]

    def compress(self, module: Any, hidden: Tensor, keys: Tensor, values: Tensor, *more: Any) -> tuple[Tensor, Tensor]:
        """Cut a layer, and note which of its keys are left."""
        left = self._compress(module, hidden, keys, values, *more)
        self.kept.append(places(keys[0], left[0][0]))
        return left


def places(keys: Tensor, left: Tensor) -> Tensor:
    """Return where the rows of `left` [H,c,D] stand in `keys` [H,n,D], ascending, [H,c].

    Raises:
        ValueError: a row stands nowhere, or two keys are equal to the last bit, so that it cannot be told which was kept.
    """
    same = (left[:, :, None] == keys[:, None]).all(dim=-1)  # [H,c,n]
    if not bool((same.sum(dim=-1) == 1).all()):
        raise ValueError("a key that a press has left must be one of the prompt's, and of one token only")
    return same.int().argmax(dim=-1).sort(dim=-1).values


class PressSide:
    """A loaded model."""

    def load(self, path: str, dtype: str, threads: int = 1) -> dict[str, Any]:
        """Load a model; answer with versions."""
        torch.set_num_threads(threads)
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).eval()
        self.model.generation_config.eos_token_id = None
        self.model.generation_config.pad_token_id = 0
        return {"versions": {name: version(name) for name in ("kvpress", "transformers", "torch")}}

    def press(
        self, name: str, parameters: dict[str, Any], prompt: list[int], ratio: float, tokens: int
    ) -> dict[str, Any]:
        """Cut one prompt by a compression ratio and write a text, the end-of-text token ignored.

        Answers with what is kept [L][H_kv][c], the scores [L][H_kv][n], the tokens, and by how much each token's logit was
        the best.
        """
        press = PRESSES[name](compression_ratio=ratio, **parameters)
        noted = Noted(press)
        with torch.inference_mode(), press(self.model):
            written = self.model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                do_sample=False,
                max_new_tokens=tokens,
                return_dict_in_generate=True,
                output_logits=True,
            )
        best = torch.stack([logits[0].float().topk(2).values for logits in written.logits])
        return {
            "kept": torch.stack(noted.kept).tolist(),
            "scores": torch.stack(noted.scores)[:, 0].float().tolist(),
            "tokens": written.sequences[0, len(prompt) :].tolist(),
            "leads": (best[:, 0] - best[:, 1]).tolist(),
        }


if __name__ == "__main__":
    side = PressSide()
    serve({"load": side.load, "press": side.press})
