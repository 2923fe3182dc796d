"""Calibrating from the command line: the command that a message names works as it stands, and what is there is kept."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner, Result

from designspace.cli.app import app
from designspace.models.calibration import artefact_path, load_artefact, read_artefact
from designspace.models.model_spec import ModelSpec
from sweeps.spec import load_sweep

REVISION = "0123456789abcdef0123456789abcdef01234567"
SWEEP = """\
schema: 1
study: tiny
models: [{model}]
tasks: [{{name: gsm8k, split: test, path: problems.jsonl}}]
budgets: [12]
mechanisms: [triattention]
seeds: {{count: 1, root: 7}}
generation: {{temperature: 0.0, max_new_tokens: 4, rows: 1}}
"""
SHORT = "Two and three make five, and five and seven make twelve. " * 12  # tokens are bytes here


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama whose tokenizer knows every byte, as those of real models do."""
    folder = tmp_path_factory.mktemp("models") / "bytes"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = Tokenizer(models.BPE({"<eos>": 0} | {letter: n for n, letter in enumerate(alphabet, 1)}, []))
    tokens.pre_tokenizer, tokens.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token="<eos>").save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=260, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=512, eos_token_id=0, bos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def designspace(*words: str | Path) -> Result:
    """Run a command."""
    return CliRunner().invoke(app, [str(word) for word in words])


def run(sweep: Path, results: Path) -> Result:
    """Run a sweep in this process."""
    return designspace("run", sweep, "--executor", "inline", "--results", results, "--progress", "none")


def printed(result: Result) -> list[str]:
    """The words of the one command that an error names."""
    (command,) = re.findall("make it with: (designspace calibrate .*)", result.stderr)
    return shlex.split(command)[1:]


def declared(folder: Path, model: str) -> Path:
    """Write a sweep of one problem."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "problems.jsonl").write_text(json.dumps({"id": "p", "problem": "2 + 3", "answer": "5"}) + "\n")
    (folder / "tiny.yaml").write_text(SWEEP.format(model=model))
    return folder / "tiny.yaml"


def in_the_hub(model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a model where the hub's client keeps what it has fetched."""
    shutil.copytree(model, cache / "models--org--far" / "snapshots" / REVISION)
    for library in ("huggingface_hub.constants.HF_HUB_CACHE", "huggingface_hub.constants.HF_HUB_OFFLINE"):
        monkeypatch.setattr(library, str(cache) if library.endswith("CACHE") else True)


@pytest.mark.parametrize(
    "entry",
    [
        "{name: mine, path: ../models/bytes}",
        "{name: mine, path: ../models/bytes, dtype: bfloat16, calibration: artefacts here}",
        f"{{name: far, hub: org/far, revision: {REVISION}}}",
        "{name: pocket-llama, calibration: artefacts here}",
    ],
)
def test_the_command_that_an_error_prints_works_as_printed(
    entry: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pasted where the error came up, for a sweep in another folder; and then the sweep runs."""
    monkeypatch.setattr("designspace.models.calibration_text.MAX_TOKENS", 1024)  # as printed, but sooner done
    monkeypatch.setenv("DESIGNSPACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, tmp_path / "models" / "bytes")
    in_the_hub(model, tmp_path / "hub", monkeypatch)
    sweep = declared(Path("my sweeps"), entry)

    refused = run(sweep, Path("r"))
    assert refused.exit_code == 2, refused.output
    planned = designspace("plan", sweep, "--results", "r")
    assert " ".join(shlex.join(printed(refused)).split()) in " ".join(planned.output.split())

    made = designspace(*printed(refused))
    assert made.exit_code == 0, made.stderr or made.exception
    (spec,) = load_sweep(sweep).models
    assert made.stdout == f"{artefact_path(spec)}\n"
    assert load_artefact(spec).dtype == spec.dtype
    assert run(sweep, Path("r")).exit_code == 0


def test_a_model_that_no_file_declares_is_said_by_its_entry(model: Path, tmp_path: Path) -> None:
    """In Python: a folder alone is a path, everything else stands in the command as it would in a sweep file."""
    for spec in (
        ModelSpec("mine", path=str(model)),
        ModelSpec("mine", path=str(model), dtype="bfloat16", calibration=str(tmp_path / "a b")),
        ModelSpec.bundled("pocket-llama", calibration=str(tmp_path / "c")),
    ):
        with pytest.raises(ValueError, match="make it with") as caught:
            load_artefact(spec, "v-pca")
        command = shlex.split(str(caught.value).partition("make it with: ")[2])
        done = designspace(*command[1:], *(["--tokens", "256"] if spec.name == "mine" else ["--problems", "2"]))
        assert done.exit_code == 0, done.stderr or done.exception
        assert load_artefact(spec, "v-pca").dtype == spec.dtype


def files(folder: Path) -> dict[str, int]:
    """When each artefact of a folder was written."""
    return {file.name: file.stat().st_mtime_ns for file in folder.glob("*.safetensors")}


def calibrated(model: Path, out: Path, *words: str | Path) -> Result:
    """Calibrate into a folder."""
    done = designspace("calibrate", model, *words, "--out", out, "--progress", "none")
    assert done.exit_code == 0, done.stderr or done.exception
    return done


def test_what_is_there_is_kept_and_what_is_stale_is_made_anew(model: Path, tmp_path: Path) -> None:
    """A run that was stopped goes on with what is missing; another text, another cut or another model is seen."""
    text, other = tmp_path / "text.txt", tmp_path / "other.txt"
    text.write_text(SHORT)
    other.write_text(SHORT.replace("five", "four"))
    first = calibrated(model, tmp_path, "--text", text)
    assert {"q-stats", "v-pca", "kvquant", "head-importance", "route", "kv-tuner", "duo-gate"} == {
        Path(line).stem for line in first.stdout.splitlines()
    }
    before = files(tmp_path)

    (tmp_path / "v-pca.safetensors").unlink()
    again = calibrated(model, tmp_path, "--text", text)
    assert again.stdout == f"{tmp_path / 'v-pca.safetensors'}\n"
    assert again.stderr.count("kept: ") == 6
    assert {**before, "v-pca.safetensors": 0} == {**files(tmp_path), "v-pca.safetensors": 0}

    assert "kept" in calibrated(model, tmp_path, "q-stats").stderr  # nothing else was asked for
    for words in (["--text", other], ["--text", text, "--window", "100"], ["--text", text, "--dtype", "bfloat16"]):
        renewed = calibrated(model, tmp_path, "q-stats", *words)
        assert "anew: q-stats" in renewed.stderr and renewed.stdout
        assert "kept: q-stats" in calibrated(model, tmp_path, "q-stats", *words).stderr
    (tmp_path / "q-stats.safetensors").write_bytes(b"half of a")
    assert "is damaged" in calibrated(model, tmp_path, "q-stats", "--text", text).stderr
    trained = designspace("calibrate", "pocket-llama", "q-stats", "--problems", "2", "--out", tmp_path)
    assert "is of another model" in trained.stderr


def test_artefacts_are_written_as_they_are_made(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stops the second keeps the first, and no half of a file lies about."""
    from families.calibrations import trim_gate_calibration

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trim_gate_calibration, "pieces_of", stopped)
    (tmp_path / "text.txt").write_text(SHORT)
    words = ["calibrate", model, "q-stats", "trim-gate", "--text", tmp_path / "text.txt", "--out", tmp_path / "out"]
    interrupted = designspace(*words)

    assert interrupted.exit_code == 130
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["q-stats.safetensors"]
    assert read_artefact(tmp_path / "out" / "q-stats.safetensors").source == "text.txt"


def test_it_says_what_it_takes_and_how_far_it_is(model: Path, tmp_path: Path) -> None:
    """Text, memory and time before, tokens while it reads, and afterwards what was left out, with a command that works."""
    (tmp_path / "text.txt").write_text(SHORT)
    words: Sequence[str | Path] = ["calibrate", model, "--text", tmp_path / "text.txt", "--out", tmp_path / "out"]
    done = designspace(*words, "--tokens", "400", "--progress", "plain")

    assert f"text: the first 400 of {len(SHORT)} tokens of text.txt, 1 pieces" in done.stderr
    assert re.search(r"memory: about [\d.]+ MiB \(weights .*\), free ", done.stderr)
    assert re.search(r"q-stats, route, v-pca: about \d+ s, 400 tokens through the model", done.stderr)
    assert "reading: 400 of 400 tokens, " in done.stderr
    left_out, command = done.stderr.splitlines()[-2:]
    assert left_out.startswith("left out, as each takes longer: dms-gate, ")
    assert shlex.split(command)[1:3] == ["calibrate", str(model)]
    assert designspace(*shlex.split(command)[1:3], "kvzap", *shlex.split(command)[-4:]).exit_code == 0


def test_what_does_not_fit_is_refused_in_a_line(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any weights are read."""
    monkeypatch.setattr("designspace.memory.calibration_cost.free_bytes", lambda device: 1000)
    refused = designspace("calibrate", model, "q-stats", "--out", tmp_path)

    assert refused.exit_code == 2
    (error,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert "which has 0.0 MiB free: use fewer --tokens, a smaller --window or fewer artefacts" in error


def test_a_sweep_names_what_its_mechanisms_need(model: Path, tmp_path: Path) -> None:
    """Trained networks too, and nothing else."""
    sweep = declared(tmp_path, f"{{name: mine, path: {model}, calibration: made}}")
    sweep.write_text(sweep.read_text().replace("[triattention]", "[triattention, kvzap, h2o]"))
    (tmp_path / "text.txt").write_text(SHORT)
    done = designspace("calibrate", "mine", "--sweep", sweep, "--text", tmp_path / "text.txt")

    assert done.exit_code == 0, done.stderr or done.exception
    assert {"q-stats", "kvzap"} == {Path(line).stem for line in done.stdout.splitlines()}
    assert designspace("plan", sweep, "--results", tmp_path / "r").output.count("make it with") == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--device", "cuda:9"], "no device 'cuda:9' here"),
        (["--window", "5000"], "texts of this model may have 512 positions, got a window of 5,000"),
        (["no-such"], "unknown calibration artefact 'no-such'"),
    ],
)
def test_what_cannot_be_is_one_line(words: list[str], reason: str, model: Path, tmp_path: Path) -> None:
    """No traceback."""
    refused = designspace("calibrate", model, *words, "--out", tmp_path)

    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: ") and reason in refused.stderr and refused.stderr.count("\n") == 1


def test_an_entry_that_declares_no_model_is_refused() -> None:
    """With the field at fault."""
    for entry, reason in (("{name: x, pth: y}", "pth"), ("{name: x}", "unknown bundled model"), ("{a", "")):
        refused = designspace("calibrate", entry)
        assert (refused.exit_code, type(refused.exception)) == (2, SystemExit)
        assert reason in refused.stderr
