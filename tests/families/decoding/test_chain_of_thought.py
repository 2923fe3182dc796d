"""Chain-of-thought: what is put to the prompt, and what it costs."""

from __future__ import annotations

from families.decoding.chain_of_thought import ChainOfThought
from families.decoding.refresh import Refresh
from families.decoding.sampling import Sampling
from families.decoding.self_consistency import SelfConsistency
from tests.families.decoding.toy import compose, model, request, run


def test_the_cue_follows_the_prompt() -> None:
    """By default the zero-shot cue; examples come first; everything as it is."""
    assert ChainOfThought().format_prompt("How many?") == "How many?\n\nLet's think step by step."
    assert ChainOfThought(text=" Go.", exemplars="1+1? 2\n").format_prompt("2+2?") == "1+1? 2\n2+2? Go."
    assert ChainOfThought(text="").format_prompt("How many?") == "How many?"


def test_the_cue_goes_through_other_decodings() -> None:
    """Self-consistency over a chain of thought, the published pair, asks with the cue."""
    inner = ChainOfThought(text=" Go.")

    assert (
        SelfConsistency(decoding=inner).format_prompt("2+2?")
        == "2+2? Go."
        == Refresh(decoding=inner).format_prompt("2+2?")
    )
    assert ChainOfThought(text=" Now.", decoding=inner).format_prompt("2+2?") == "2+2? Go. Now."


def test_cue_tokens_are_prompt_tokens_in_the_cache() -> None:
    """Two more tokens in the prompt are two more in every attended size of a full cache, and in the account."""
    loaded, chooser = model(), Sampling(temperature=1.0)
    prompt = loaded.decode(request().prompt_ids)
    cued = loaded.token_ids(ChainOfThought(text="WaitAnswer").format_prompt(prompt))
    asked = request().__class__("p0", cued, request().stream)
    (base,) = run(compose(chooser), request())
    (longer,) = run(compose(ChainOfThought(text="WaitAnswer", decoding=chooser)), asked)

    assert loaded.token_ids(prompt) == request().prompt_ids
    assert longer.n_prompt_tokens == base.n_prompt_tokens + 2
    assert cued[:-2] == request().prompt_ids
