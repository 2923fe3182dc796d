"""kvpress, run as its own evaluation runs it, asked through JSON lines. Runs in an environment of its own.

`pipeline("kv-press-text-generation")` with a `DecodingPress`, one text at a time, greedy, the end-of-text token switched off
so that every text has the length asked for.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

import torch
from kvpress import DecodingPress, KnormPress, SnapKVPress
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, pipeline
from transformers.utils import logging

from benchmarks import resident
from benchmarks.json_lines import serve

PRESSES = {"knorm": KnormPress, "snapkv": lambda: SnapKVPress(window_size=16)}


class KVPressSide:
    """A loaded model and its pipeline."""

    def load(self, path: str, dtype: str, device: str = "cpu") -> dict[str, Any]:
        """Load a model; answer with versions."""
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).to(device).eval()
        model.generation_config.eos_token_id = -1
        for weight in model.parameters():
            weight.sum()  # weights are read from a mapped file when first used, and would look like memory of a run
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
        self.pipeline = pipeline("kv-press-text-generation", model=model, tokenizer=self.tokenizer, device=device)
        return {"versions": {name: version(name) for name in ("kvpress", "transformers", "torch")}}

    def run(
        self, context: str, question: str, press: str, interval: int, target: int, tokens: int, threads: int
    ) -> dict[str, Any]:
        """Write one text; answer with seconds, tokens, the text, the most memory of the process and by how much it grew."""
        torch.set_num_threads(threads)
        decoding = DecodingPress(PRESSES[press](), compression_interval=interval, target_size=target)
        started_s, held = time.perf_counter(), resident.begin_peak()
        answer = self.pipeline(context, question=question, press=decoding, max_new_tokens=tokens)["answer"]
        wall_s, most = time.perf_counter() - started_s, resident.peak()
        return {"wall_s": wall_s, "tokens": tokens, "text": answer, "process_bytes": most, "grown_bytes": most - held}


if __name__ == "__main__":
    side = KVPressSide()
    serve({"load": side.load, "run": side.run})
