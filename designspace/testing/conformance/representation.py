"""What must be true of every representation: its store, driven as the slot cache drives it, and what it makes of an event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from designspace.axes import Mechanism, MergeResult, Representation, View
from designspace.engine.compress import compress
from designspace.testing.conformance.cases import ArtefactMaker, Case, Shape, cases, geometry_of
from designspace.testing.conformance.probes import HostMechanism, composed
from designspace.testing.conformance.purity import check_pure
from designspace.testing.conformance.recording import check_reads, reads_of
from designspace.testing.conformance.scoring import check_outcome, kept_mask
from designspace.testing.conformance.store import HeldBytes, StoreDriver
from designspace.testing.conformance.verdict import expect, expect_close, expect_equal, named
from designspace.testing.conformance.view_changes import cloned, of_rows, showing, with_garbage

HEAD_DIMS, N_LAYERS = (32, 64, 128), (2, 4)
DTYPES = (torch.float32, torch.bfloat16)
_SHAPE = Shape("store", 2, 3, 2, 2, "ragged")
_LEAST_COSINE = 0.25  # of what is read to what was written, for random vectors: a slot mix-up gives 0


@dataclass(frozen=True)
class Trial:
    """A representation, a model geometry that it accepts, and events to merge in.

    together: whether the heads of its store hold the same tokens, which is so where they do in all events.
    """

    strategy: Representation
    mechanism: Mechanism
    shape: Shape
    head_dim: int
    artefacts: ArtefactMaker | None
    together: bool
    tried: list[Case]

    @property
    def who(self) -> str:
        """How a message begins."""
        return named(self.strategy)

    def driver(self, dtype: torch.dtype = torch.float32) -> StoreDriver:
        """Return a store of three rows with ragged heads, some loaded and some appended tokens."""
        geometry = geometry_of(self.shape, self.head_dim)
        driver = StoreDriver(self.strategy, geometry, 3, dtype, self.artefacts, together=self.together)
        driver.load([0, 1, 2])
        for _ in range(5):
            driver.append()
        return driver

    def event(self, case: Case) -> tuple[Tensor, MergeResult]:
        """Return which slots an event keeps and what they then hold, in the order before packing."""
        kept = compress(self.mechanism, showing(case.view, self.mechanism.needs()))
        after = kept.contents.over(case.view.contents)
        return kept_mask(kept), MergeResult(kept_mask(kept), after.keys, after.values, kept.mass, kept.memory)


def trial(strategy: Representation, company: HostMechanism) -> Trial:
    """Return what the checks of a representation need.

    Raises:
        AssertionError: it refuses every geometry of the kit.
    """
    mechanism = composed(strategy, company.within)
    tall = [(replace(_SHAPE, layers=n), dim) for n in N_LAYERS for dim in HEAD_DIMS]
    reasons = {(shape, dim): strategy.unsupported_reason(geometry_of(shape, dim)) for shape, dim in tall}
    accepted = [geometry for geometry, reason in reasons.items() if reason is None]
    expect(
        bool(accepted),
        f"{named(strategy)} refuses {N_LAYERS} layers with head dimensions {HEAD_DIMS}: {list(reasons.values())[-1]}",
    )
    shape, head_dim = accepted[0]
    needs, shapes, artefacts = mechanism.needs(), company.shapes, company.artefacts
    made = cases(needs, sinks=2, recent=3, artefacts=artefacts, shapes=shapes, head_dim=head_dim)
    tried = [_remembering(strategy, case) for case in made if strategy.evicts]
    together = all(shape.together for shape in shapes)
    left = [case for case in tried if strategy.unsupported_reason(case.view.geometry) is None]
    return Trial(strategy, mechanism, shape, head_dim, artefacts, together, left)


def _remembering(strategy: Representation, case: Case) -> Case:
    """Return a case with the masses and the memory that the representation would have."""
    view, size = case.view, strategy.memory_size
    mass = torch.ones_like(view.positions) if view.mass is None else view.mass
    memory = torch.zeros(*view.counts.shape, size) if size else None
    return replace(case, view=replace(view, mass=mass if strategy.carries_mass else None, memory=memory))


def check_declared_needs(t: Trial) -> None:
    """Check that merging and the store work from what is declared alone, and read all of it."""
    reads: set[Any] = set()
    for case in t.tried:
        reads |= reads_of(showing(case.view, t.strategy.needs()), lambda view, case=case: _merge(t, case, view))  # type: ignore[misc]
    driver = t.driver()
    driver.reload([1])
    driver.read(0)
    check_reads(t.strategy, reads | driver.reads)


def _merge(t: Trial, case: Case, view: View) -> MergeResult:
    """Merge after a selection made from the case's scores."""
    shares = torch.minimum(view.target[None, :, None].expand_as(view.counts), view.counts)
    keep = t.mechanism.scoring.selector.select(case.view, case.scores, shares)
    return t.strategy.merge_evicted(view, case.scores, shares, keep)


def check_reading(t: Trial) -> None:
    """Check what is read: shape and type, finite numbers in every slot, one layer the same as some rows of all."""
    for dtype in DTYPES:
        driver, who = t.driver(dtype), f"{t.who} in {dtype}"
        rows_keys, rows_values = driver.read_rows([2, 0])
        for layer in range(t.shape.layers):
            for name, x, of_two in zip(("keys", "values"), driver.read(layer), (rows_keys, rows_values), strict=True):
                shape = (3, t.shape.heads, driver.capacity, t.head_dim)
                expect(
                    x.dtype == dtype and tuple(x.shape) == shape,
                    f"{who}: read must return {name} {shape} in the model's type, got {x.dtype} {tuple(x.shape)}",
                )
                expect(bool(torch.isfinite(x).all()), f"{who}: {name} must be finite in free slots too")
                filled = driver.filled[layer][[2, 0]][..., None]
                expect_equal(
                    x[[2, 0]].masked_fill(~filled, 0), of_two[layer].masked_fill(~filled, 0),
                    f"{who}: read and read_rows must give the same {name}",
                )  # fmt: skip


def check_content(t: Trial) -> None:
    """Check that each slot gives back, however coarsely, the token that was put there."""
    driver = t.driver()
    for name, read, written in zip(("keys", "values"), driver.read_rows([0, 1, 2]), driver.written, strict=True):
        cosine = torch.cosine_similarity(read.float(), written.float(), dim=-1)[driver.filled].mean()
        expect(
            bool(cosine >= _LEAST_COSINE),
            f"{t.who}: {name} that are read have a mean cosine of {float(cosine):.2f} to those written: "
            "slots, heads or rows are mixed up",
        )


def check_round_trip(t: Trial) -> None:
    """Check that what is read can be loaded again, as an event does, and that a snapshot brings a row back."""
    driver = t.driver()
    before = driver.read_rows([1])
    driver.reload([1])
    for a, b in zip(before, driver.read_rows([1]), strict=True):
        expect(a.shape == b.shape and a.dtype == b.dtype, f"{t.who}: loading what was read changes its shape")
        expect(bool(torch.isfinite(b).all()), f"{t.who}: loading what was read gives numbers that are not finite")
    state = driver.saved_state()
    before, snapshot = driver.read_rows([1]), driver.store.snapshot(1)
    driver.append()
    driver.load([1], seed=5)
    driver.restore_state(state)
    driver.store.restore(1, snapshot)
    for a, b in zip(before, driver.read_rows([1]), strict=True):
        expect_equal(a, b, f"{t.who}: a snapshot does not bring back what was read")


def check_row_independence(t: Trial) -> None:
    """Check that loading or writing one row leaves every other row's memory bit-identical."""
    one, other = t.driver(), t.driver()
    before = one.store.snapshot(2)
    one.load([0], seed=5)
    _expect_same_row(one.store.snapshot(2), before, f"{t.who}: loading row 0 changes row 2")
    one = t.driver()
    one.append(seed=9, except_rows=[0])
    other.append(seed=9)
    for row in (1, 2):
        mine, theirs = one.store.snapshot(row), other.store.snapshot(row)
        _expect_same_row(mine, theirs, f"{t.who}: what is written to row 0 changes row {row}")


def _expect_same_row(a: dict[str, Tensor], b: dict[str, Tensor], message: str) -> None:
    for name, x in a.items():
        expect_equal(x, b[name], f"{message} ({name})")


def check_layout(t: Trial) -> None:
    """Check that every tensor of the store has the rows in its second dimension: snapshots rely on it."""
    store = t.driver().store
    for name, x in vars(store).items():
        if isinstance(x, Tensor):
            expect(
                x.dim() >= 2 and x.shape[1] == 3, f"{t.who}: {name} must be [L,rows,…], got {tuple(x.shape)} for 3 rows"
            )


def check_bytes(t: Trial) -> None:
    """Check the byte account: nothing for nothing, something for a token, a row's own business, within what is allocated."""
    driver, shape = t.driver(), (t.shape.layers, 3, t.shape.heads)
    if not t.strategy.bytes_depend_on_data:
        empty = driver.store.held_bytes(torch.zeros(shape, dtype=torch.int32))
        expect(empty.tolist() == [0, 0, 0], f"{t.who}: empty rows must hold 0 bytes, got {empty.tolist()}")
        for n in range(1, driver.capacity + 1):
            now = driver.store.held_bytes(torch.full(shape, n, dtype=torch.int32))
            expect(bool((now > 0).all()), f"{t.who}: {n} tokens per head must take some bytes, got {now.tolist()}")
        counts = driver.counts.clone()
        held = driver.store.held_bytes(counts)
        counts[:, 0] = 1
        expect_equal(
            driver.store.held_bytes(counts)[1:], held[1:], f"{t.who}: held bytes of a row depend on another row"
        )
    held, read = driver.store.held_bytes(driver.counts), driver.store.read_bytes(driver.counts)
    for name, x in (("held_bytes", held), ("read_bytes", read)):
        expect(x.dtype == torch.int64 and tuple(x.shape) == (3,), f"{t.who}: {name} must be int64 [3], got {x}")
    reserved = sum(x.nbytes for x in vars(driver.store).values() if isinstance(x, Tensor))
    allocated = driver.store.allocated_bytes()
    expect(allocated >= reserved, f"{t.who}: allocated_bytes says {allocated}, its tensors take {reserved}")
    expect(int(held.sum()) <= allocated, f"{t.who}: rows hold {held.tolist()} bytes of {allocated} allocated")


def check_held_bytes_are_real(t: Trial) -> None:
    """Check that `held_bytes` is the number of bytes that reading the filled slots depends on, found by flipping each.

    One in a hundred may be hidden by rounding. A store that selects the slots to attend to may have bytes that one query does
    not depend on, so it may state more.
    """
    if t.strategy.bytes_depend_on_data:
        return
    geometry = geometry_of(replace(t.shape, heads=1), t.head_dim)
    probe = HeldBytes(t.strategy, geometry, t.artefacts, together=t.together)
    measured, stated = probe.measured(), probe.said()
    expect(
        measured <= stated and (probe.driver.store.selects_slots or 100 * measured >= 99 * stated),
        f"{t.who}: held_bytes says {stated}, but reading depends on {measured} bytes of the store's tensors",
    )


def check_merge(t: Trial) -> None:
    """Check an event: totals and protection, contents changed at kept slots only, masses conserved, nothing not finite."""
    for case in t.tried:
        view = showing(case.view, t.mechanism.needs())
        who = f"{t.who}, {case.name}"
        kept = compress(t.mechanism, view)
        check_outcome(who, view, kept)
        keep = kept_mask(kept)
        for name in ("keys", "values"):
            x, before = getattr(kept.contents, name), getattr(case.view, name)
            if x is None:
                continue
            expect(x.dtype == before.dtype and x.shape == before.shape, f"{who}: {name} change shape or type")
            expect(bool(torch.isfinite(x[keep]).all()), f"{who}: {name} of kept slots must be finite")
        if kept.mass is not None and view.mass is not None:
            expect(bool((kept.mass[keep] >= 1).all()), f"{who}: a kept slot stands for at least one token")
            before, after = ((m * mask).sum(dim=-1) for m, mask in ((view.mass, view.valid), (kept.mass, keep)))
            expect(bool((after <= before).all()), f"{who}: slots stand for more tokens than there were")
        if kept.memory is not None:
            shape = (*view.counts.shape, t.strategy.memory_size)
            expect(tuple(kept.memory.shape) == shape, f"{who}: memory must be {shape}, got {tuple(kept.memory.shape)}")
            expect(bool(torch.isfinite(kept.memory).all()), f"{who}: memory must be finite")


def check_merge_independence(t: Trial) -> None:
    """Check that merging a row depends on no other row, and on no free slot."""
    for case in t.tried:
        keep, merged = t.event(case)
        row, who = keep.shape[1] - 1, f"{t.who}, {case.name}"
        if row:
            alone, own = t.event(of_rows(case, [row]))
            expect_equal(keep[:, [row]], alone, f"{who}: row {row} by itself keeps other slots")
            _expect_same_content(_row(merged, row), own, alone, f"{who}: row {row} by itself holds something else")
        other, changed = t.event(with_garbage(case, case.view, seed=77, scale=500.0))
        expect_equal(keep, other, f"{who}: free slots with other numbers change what is kept")
        _expect_same_content(merged, changed, keep, f"{who}: free slots with other numbers change what is held")


def _row(merged: MergeResult, row: int) -> MergeResult:
    return MergeResult(*(None if x is None else x[:, [row]] for x in merged))  # type: ignore[arg-type]


def _expect_same_content(a: MergeResult, b: MergeResult, keep: Tensor, message: str) -> None:
    if a.keys is not None and b.keys is not None:
        expect_close(a.keys[keep], b.keys[keep], f"{message} (keys)")
    if a.values is not None and b.values is not None:
        expect_close(a.values[keep], b.values[keep], f"{message} (values)")
    if a.mass is not None and b.mass is not None:
        expect_equal(a.mass[keep], b.mass[keep], f"{message} (mass)")
    if a.memory is not None and b.memory is not None:
        expect_close(a.memory, b.memory, f"{message} (memory)")


def check_purity(t: Trial) -> None:
    """Check determinism of events and stores, that inputs stay as they are, and that global generators do."""
    given = [cloned(case) for case in t.tried]
    check_pure(t.who, lambda: [list(_merge(t, case, case.view)) for case in given], given)
    check_pure(t.who, lambda: list(t.driver().read_rows([0, 1, 2])), [])


CHECKS: dict[str, Callable[[Trial], None]] = {
    "needs": check_declared_needs,
    "layout": check_layout,
    "reading": check_reading,
    "content": check_content,
    "round trip": check_round_trip,
    "row independence": check_row_independence,
    "bytes": check_bytes,
    "held bytes are real": check_held_bytes_are_real,
    "merge": check_merge,
    "merge independence": check_merge_independence,
    "purity": check_purity,
}
