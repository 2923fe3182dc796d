"""The page of the public Python names, from the package."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any

import designspace
from docs.generate.markdown import Docstring

HEAD = """# Python

`import designspace` gives these names. Each is loaded when it is first used, so a mechanism in a program of your own needs
neither Ray nor YAML. What strategies are made from is in `designspace.axes` ([what a strategy sees](../view.md)), the checks
for strategies and tasks of your own in `designspace.testing.conformance` ([contributing](../../CONTRIBUTING.md)).
"""


# What these names return, and a user goes on with.
RETURNED = {
    "Compression": "designspace.program.compression",
    "GeneratedText": "designspace.program.generated_text",
    "Generation": "designspace.axes",
    "LoadedModel": "designspace.models.loading",
    "Results": "designspace.query.results",
}


def page() -> str:
    """Return every public name with its signature and its documentation."""
    parts = [HEAD.rstrip()]
    names = {name: getattr(designspace, name) for name in designspace.__all__ if name != "__version__"}
    names |= {name: getattr(import_module(module), name) for name, module in RETURNED.items()}
    for name, value in sorted(names.items(), key=lambda item: item[0].lower()):
        documented = _documented(name, value)
        # What is only returned is not made by its users, so its constructor is not shown.
        parts += [f"## {name}", *([f"Of `{RETURNED[name]}`.", *documented[1:3]] if name in RETURNED else documented)]
        for method in _methods(value):
            parts += _method(name, method, inspect.getattr_static(value, method))
    return "\n\n".join(filter(None, parts)) + "\n"


def _documented(name: str, value: Any) -> list[str]:
    doc = Docstring(value)
    made = [] if not inspect.isclass(value) or value.__init__.__doc__ is None else [Docstring(value.__init__)]
    own = [d for d in made if d.text and "See help" not in d.text]
    return [
        f"```python\n{_signature(name, value)}\n```",
        doc.text,
        doc.lists(),
        *(part for d in own for part in (d.text, d.lists())),
    ]


def _methods(value: Any) -> list[str]:
    if not inspect.isclass(value):
        return []
    return [name for name, found in vars(value).items() if not name.startswith("_") and _is_documented(found)]


def _is_documented(found: Any) -> bool:
    return isinstance(found, property | classmethod | staticmethod) or inspect.isfunction(found)


def _method(owner: str, name: str, found: Any) -> list[str]:
    if isinstance(found, property):
        return [f"### {owner}.{name}", Docstring(found.fget).text]
    function = found.__func__ if isinstance(found, classmethod | staticmethod) else found
    doc = Docstring(function)
    return [f"### {owner}.{name}", f"```python\n{_signature(name, function)}\n```", doc.text, doc.lists()]


def _signature(name: str, value: Any) -> str:
    text = re.sub(r"<function (\w+) at 0x\w+>", r"\1", f"{name}{inspect.signature(value)}")
    # Annotations are text in the source, and would be shown as such.
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text).replace(
        "\"Literal['float32', 'bfloat16']\"", "Literal['float32', 'bfloat16']"
    )
    text = re.sub(r"\(self(, )?", "(", text).replace("(cls, ", "(").removesuffix(" -> None")
    return text if len(text) <= 100 else re.sub(r"\((.*)\)( -> .*)?$", _in_lines, text)


def _in_lines(found: re.Match[str]) -> str:
    arguments = re.split(r", (?=[\w*]+(?:[:,)]|$))", found[1])
    return "(\n" + "".join(f"    {argument},\n" for argument in arguments) + ")" + (found[2] or "")
