"""QAQ against the released quantiser: codes, widths and what is read back.

Its release codes a text once; so the store is loaded, as after a prompt. Ours follows it in the scale, in the clipping
around the mean, and in 0 bits, which read as the mean minus half of the range.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from designspace.axes import Observed
from families.representation.centred_codes import encode
from families.representation.qaq import QAQ, QAQStore, Side
from tests.families.representation.drive import Driver, geometry_of
from tests.golden.cases import collection_files, read


@pytest.mark.parametrize("file", collection_files("qaq", "[hl]*.safetensors"))
def test_codes_of_one_width(file: Path) -> None:
    """One scale and one mean per token and head, or per token and layer; outliers stay as they are."""
    tensors, meta = read(file)
    p = meta["parameters"]
    cache, n_outliers = tensors["cache"], Side(1.0, 1, 1, 1, p["outliers"]).n_outliers
    by_token = cache.permute(0, 2, 1, 3)  # [L,N,H,D]
    units = by_token.flatten(2) if p["level"] == "layer" else by_token
    bits = tensors["bits"].to(torch.uint8).transpose(0, 1)  # [L,N] or [L,N,H]
    coded = encode(units, bits, n_outliers(units.shape[-1]))
    read_back = coded.decoded().view_as(by_token).permute(0, 2, 1, 3)

    exact = torch.zeros(units.shape, dtype=torch.bool).scatter(-1, coded.places.long(), True)
    assert torch.equal(exact.view_as(by_token).permute(0, 2, 1, 3), tensors["outlier_mask"])
    tolerance = meta["tolerance"]["dequantised_abs"]
    assert torch.allclose(read_back, tensors["dequantised"], atol=tolerance, rtol=0)


@pytest.mark.parametrize("file", collection_files("qaq", "*_attention_aware.safetensors"))
def test_widths_by_attention(file: Path) -> None:
    """Keys by the constant norm, values by the last rows of attention, through a store that is loaded."""
    tensors, meta = read(file)
    p = meta["parameters"]
    limits = {"epsilon": p["epsilon"], "min_bits": p["n_bits_min"], "max_bits": p["n_bits_max"], "window": p["last_n"]}
    config = QAQ(**limits, outliers=p["outliers"], query_norm=p["q_norm"] or 300.0)
    driver = Driver(config, geometry_of(p["layers"], p["heads"], p["head_dim"], group=1), capacity=p["n"])
    seen = tensors.get("attention", torch.zeros(p["layers"], p["heads"], p["last_n"], p["n"]))
    driver.observed = Observed(tracked={config.tracker: seen.transpose(-1, -2)[:, None]})
    cache = tensors["cache"][:, None]
    driver.load(cache, cache)

    side = 0 if p["what"] == "key" else 1
    store = driver.store
    assert isinstance(store, QAQStore)
    widths = (store.key_bits, store.value_bits)[side][:, 0].permute(2, 0, 1)
    assert torch.equal(widths.int(), tensors["bits"])
    assert len(widths.unique()) > 1
    tolerance = meta["tolerance"]["dequantised_abs"]
    assert torch.allclose(driver.read()[side][:, 0], tensors["dequantised"], atol=tolerance, rtol=0)
