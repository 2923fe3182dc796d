"""A study: a sweep file with a `protocol` block, whose own tasks are the development tasks.

Development and held-out data are kept apart by type: nothing here makes a sweep over held-out tasks without a
`HeldoutKey`, and only an entry in the ledger of looks makes such a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from designspace.axes import Mechanism
from designspace.errors import DeclarationError
from designspace.models.spec import ModelSpec
from designspace.schedule import Budget
from designspace.tasks.task import TaskSpec
from sweeps import protocol_checks
from sweeps.checks import matches
from sweeps.document import Document, parse_document, read_document
from sweeps.fields import BudgetMatch, TaskEntry
from sweeps.placeholders import Space, checked_values, find_space, first_values, probes, substituted
from sweeps.problems import Problems
from sweeps.protocol_fields import CellMatch, Contrast, ProtocolSpec
from sweeps.sources import build_task
from sweeps.spec import Sweep, build_sweep, check_schema

if TYPE_CHECKING:
    from designspace.protocol.looks import HeldoutKey
