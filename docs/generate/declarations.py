"""The page of everything that a sweep file and a study's `protocol` block may hold, from the models that check them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from docs.generate.markdown import Docstring, default, table
from docs.generate.types import in_words
from sweeps import fields, generation_fields, protocol_fields

HEAD = """# The sweep file

A sweep file is YAML. Every field is checked before anything runs, no unknown field is accepted, and no value is converted: a
number in quotes is text. All mistakes are reported together, each with its line and column. Paths are relative to the file.
Counts are below 2^31, seeds below 2^63. A field without a default is required.

Parameters of strategies are on [their own pages](strategies/index.md), the systems that can be named under `mechanisms` are
[here](systems/index.md), and the columns of a task's file in [tasks](../tasks.md).
"""
_SECTIONS: tuple[tuple[str, str, Sequence[type[BaseModel]]], ...] = (
    ("The top level", "", [fields.Root]),
    ("`models`", "A list; each entry is", [fields.ModelEntry]),
    ("`tasks`", "A list; each entry is", [fields.TaskEntry, fields.ProblemFields]),
    ("`budgets`", "A list; each entry is a number, or", [fields.BudgetEntry]),
    (
        "`mechanisms`",
        "A list; each entry is the name of a system, one mechanism, or a grid. A strategy is its kind (`every-step`), or a "
        "mapping with parameters (`{kind: every-k, k: 8}`).",
        [fields.MechanismEntry, fields.GridEntry],
    ),
    ("`seeds`", "", [fields.Seeds]),
    ("`generation`", "", [generation_fields.GenerationSpec, generation_fields.AutoGeneration]),
    ("`exclude`", "A list; each entry drops the cells that it matches.",
     [fields.ExcludeEntry, fields.TaskMatch, fields.BudgetMatch]),
    (
        "`protocol`",
        "Makes the file a study; [Is the gain real?](../evidence.md) explains it.",
        [
            protocol_fields.ProtocolSpec, protocol_fields.Contrast, protocol_fields.CellMatch, protocol_fields.TuningSpec,
            protocol_fields.PairedTest, protocol_fields.PaperDecision, protocol_fields.PaperRoles,
        ],
    ),
)  # fmt: skip


def page() -> str:
    """Return every section with the fields of its models."""
    parts = [HEAD.rstrip()]
    for title, words, models in _SECTIONS:
        parts += [f"## {title}", *filter(None, [words]), *map(_model, models)]
    return "\n\n".join(parts) + "\n"


def shown() -> set[type[BaseModel]]:
    """Return the models that the page has."""
    return {model for _, _, models in _SECTIONS for model in models}


def declared() -> set[type[BaseModel]]:
    """Return the models that there are, but for those that only others are made from."""
    found: set[type[BaseModel]] = {
        value for module in (fields, generation_fields, protocol_fields) for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, fields.Strict) and value.__module__ == module.__name__
    }  # fmt: skip
    return found - {fields.Strict, generation_fields.GenerationCaps}


def _model(model: type[BaseModel]) -> str:
    said: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not BaseModel:
            said |= Docstring(kind).names if kind.__doc__ else {}
    rows = [
        [f"`{field.alias or name}`", _type(field), _default(field), said.get(field.alias or name, "")]
        for name, field in model.model_fields.items()
    ]
    return "\n\n".join(
        [f"### {model.__name__}", Docstring(model).text, table(["field", "type", "default", "meaning"], rows)]
    )


def _type(field: FieldInfo) -> str:
    """Return the type in words; that a field may be left out is told by its default."""
    return in_words(field.annotation, field.metadata).replace(" or null", "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    return "none" if value is None or isinstance(value, BaseModel) else default(value)
