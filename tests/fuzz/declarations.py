"""A sound sweep and a sound study with most of what a declaration may hold, and ways to damage them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random
from typing import Any

from ruamel.yaml import YAML

from tests.fuzz.damage import data_damaged

SWEEP = """\
# A sweep with most of what one may hold.
schema: 1
study: small
models:
  - pocket-llama
  - {name: other, path: model, dtype: float32}
tasks:
  - {name: chain-arithmetic, split: dev, problems: 6}
  - {name: mine, path: data.jsonl, answer: integer, prompt: boxed-suffix, fields: {kind: sort}}
budgets: [48, {tokens: 40, of: nominal}, {bytes_per_token_full: 64}]
mechanisms:
  - full
  - {name: wide, base: snapkv, cadence: {kind: every-k, k: 8}}
  - name: two-bits
    scoring: {kind: knorm}
    representation: {kind: kivi, bits: 4, group: 32}
  - grid:
      scoring: [{kind: snapkv}, {kind: tova}]
      head_routing: [uniform, {kind: pyramid}]
    name: "{scoring}+{head_routing}"
    illegal: skip
seeds: {count: 2, root: 7}
generation: {temperature: 0.6, top_p: 0.95, max_new_tokens: 16, rows: 4, block: 8}
exclude:
  - {model: other, budget: 48, why: slow}
"""

STUDY = """\
schema: 1
study: tuned
models: [pocket-llama]
tasks: [{name: chain-arithmetic, split: dev, problems: 6}]
budgets: [48]
mechanisms:
  - {name: base, base: snapkv}
  - name: arm
    base: snapkv
    scoring:
      kind: snapkv
      selector: {kind: diversity, weight: {tune: {choices: [0.5, 1.0]}}}
    cadence: {kind: every-k, k: {tune: {low: 4, high: 16}}}
seeds: {count: 1, root: 3}
generation: {temperature: 0.0, max_new_tokens: 16, rows: 4}
protocol:
  heldout: [{name: chain-arithmetic, split: confirm, problems: 5}]
  replicates: 2
  contrasts: [{id: c, arm: arm, baseline: base, cells: [{model: pocket-llama, budget: 48}]}]
  smallest_effect: 0.1
  tuning: {sampler: random, trials: 3, seed: 7, ties_within: 0.005, prefer: smaller}
  test: {name: sign_flip, resamples: 1000, seed: 1}
  alpha: 0.05
  tolerance: 0.02
"""

NAMES = (
    *("name", "kind", "base", "grid", "scoring", "selector", "cadence", "representation", "decoding", "head_routing", "path"),
    *("hub", "revision", "split", "problems", "answer", "fields", "system", "chat", "tokens", "of", "tune", "choices", "low"),
    *("high", "step", "log", "memory", "rows", "batch_size", "block", "max_total_tokens", "protocol", "exclude", "decision"),
    *("margin", "cells", "budget", "model", "count", "root", "weight", "k", "bits", "group", "window", "calibration", "dtype"),
)  # fmt: skip
VALUES = (
    *("every-k", "h2o", "triattention", "diversity", "greedy", "sampling", "kivi", "auto", "80GiB", "integer", "regex", "math"),
    *("dev", "confirm", "all", "data.jsonl", "model", "compiled", "bfloat16", "equivalence", "tpe", "grid", "paper"),
    "mcnemar_exact",
    *({"kind": "h2o"}, {"kind": "diversity", "weight": 2}, {"kind": "regex", "pattern": "("}, {"kind": "every-k", "k": 10**9}),
    *({"kind": "self-consistency", "n": 3}, {"kind": "thought-aware"}, {"sampler": "grid"}, {"rules": "paper"}, 10_000, 64.0),
    *([{"when": "c > 0", "decide": "x"}], {"count": 10_000}, {"rows": "auto", "memory": "1GiB"}, {"model": "pocket-llama"}),
)  # fmt: skip


def plain(text: str) -> Any:
    """Return YAML text as plain data, read by another reader than ours."""
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 2)
    return yaml.load(text)


def as_json(data: Any) -> bytes:
    """Return data as JSON that is YAML too: what JSON calls NaN and Infinity goes by YAML's names."""
    text = json.dumps(data)
    return re.sub(
        r'(?<![\w"\\])(-?)(Infinity|NaN)\b', lambda m: ".nan" if m[2] == "NaN" else f"{m[1]}.inf", text
    ).encode()


def values_damaged(random: Random, content: bytes) -> bytes:
    """Return a declaration with one value, or one key, replaced; what cannot be read any more stays as it is."""
    try:
        data = plain(content.decode())
    except Exception:  # whatever the other reader has to say about a damaged file
        return content
    return as_json(data_damaged(random, data, NAMES, VALUES))


def write_folder(folder: Path) -> None:
    """Write what the sweep names: a task's file, and a model of which a plan needs the configuration alone."""
    rows = [{"id": f"p{n}", "problem": f"{n} + {n}", "answer": 2 * n, "sort": "sum"} for n in range(3)]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "model").mkdir()
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 128}
    (folder / "model/config.json").write_text(json.dumps({"model_type": "llama", **shape}))
    (folder / "model/model.safetensors").write_bytes(b"weights")
