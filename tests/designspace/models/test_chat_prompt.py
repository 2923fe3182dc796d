"""Prompts through a chat template: arguments reach it, and nothing that was asked for is left out without a word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from designspace.errors import ModelError
from designspace.models.loading import LoadedModel
from designspace.models.model_spec import ModelSpec
from designspace.models.skeleton import load_skeleton
from tests.cluster.tiny import write_model

PLAIN = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"
THINKING = PLAIN + "{% if enable_thinking is defined and enable_thinking is false %}3 4{% else %}5{% endif %}"
Load = Callable[[str], LoadedModel]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model without a template."""
    folder = tmp_path_factory.mktemp("tiny")
    write_model(folder, 0)
    return folder


@pytest.fixture
def load(sound: Path, tmp_path: Path) -> Load:
    """Loads it with a template."""

    def loaded(template: str) -> LoadedModel:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))  # skeletons are kept by their folder
        folder.mkdir()
        for file in sound.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / "chat_template.jinja").write_text(template)
        return load_skeleton(ModelSpec("tiny", path=str(folder)))

    return loaded


def test_an_argument_reaches_the_template(load: Load) -> None:
    """What it renders is what the same text gives as a plain prompt; false and 0 are two values to a template."""
    model = load(THINKING)

    assert model.encode("user 1 3 4", chat="off") == model.encode("1", arguments={"enable_thinking": False})
    assert model.encode("user 1 5", chat="off") == model.encode("1", arguments={"enable_thinking": True})
    assert model.encode("user 1 5", chat="off") == model.encode("1", arguments={"enable_thinking": 0})
    assert model.encode("1") == model.encode("1", arguments={"enable_thinking": True})


@pytest.mark.parametrize(
    ("template", "name", "message"),
    [
        (THINKING, "enable_thinkin", r"never reads an argument 'enable_thinkin' \(did you mean 'enable_thinking'\?\)"),
        (THINKING, "messages", "never reads an argument 'messages'"),
        (PLAIN, "enable_thinking", r"never reads an argument 'enable_thinking' \(it takes none\)"),
        (PLAIN + "{{ eos_token }}", "eos_token", "never reads"),
        ("{% set effort = 'low' %}" + PLAIN + "{{ effort }}", "effort", "never reads"),
        ("{# enable_thinking #}" + PLAIN, "enable_thinking", "never reads"),
    ],
)
def test_an_argument_that_the_template_never_reads_is_refused(
    load: Load, template: str, name: str, message: str
) -> None:
    """Jinja passes over it; a comment, or a name that the template sets itself, is no reading."""
    with pytest.raises(ModelError, match=message):
        load(template).encode("1", arguments={name: True})


@pytest.mark.parametrize(
    "template",
    [
        "{% if effort is not defined %}{% set effort = 'low' %}{% endif %}" + PLAIN + "{{ effort }}",
        "{% macro f() %}{{ effort }}{% endmacro %}" + PLAIN + "{{ f() }}",
        PLAIN + "{% generation %}{{ effort }}{% endgeneration %}",
    ],
)
def test_an_argument_is_found_where_templates_have_it(load: Load, template: str) -> None:
    """With a default, in a macro, inside of transformers' own block tag."""
    assert load(template).encode("1", arguments={"effort": "7"})


def test_no_template_takes_arguments(sound: Path) -> None:
    """One line, as for a system message."""
    with pytest.raises(ModelError, match="has no chat template"):
        load_skeleton(ModelSpec("tiny", path=str(sound))).encode("1", arguments={"enable_thinking": False})


def test_a_system_message_that_the_template_drops_is_refused(load: Load) -> None:
    """Also where the prompt happens to hold the same words; a template that trims it keeps it."""
    model = load("{% for m in messages %}{% if m.role == 'user' %}user {{ m.content }}{% endif %}{% endfor %}")
    for prompt in ("1", "1 2 3"):
        with pytest.raises(ModelError, match="leaves the system message out without a word"):
            model.encode(prompt, system="1 2")

    trims = load("{% for m in messages %}{{ m.role }} {{ m.content | trim }} {% endfor %}")
    assert trims.encode("system 1 2 user 3 ", chat="off") == trims.encode("3", system=" 1 2\n")
