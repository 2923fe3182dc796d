"""TurboQuant against the released code: codebook, codes, and what is read of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from families.representation.quantiser import unpack
from families.representation.turbo_quant import Codec, TurboQuant, centroids, rotation
from tests.golden.cases import collection_files, read


@pytest.mark.parametrize("file", collection_files("turboquant"))
def test_codes_and_what_is_read(file: Path) -> None:
    """The cases with random signs have signs of their own, so their rotation is taken from the file."""
    tensors, meta = read(file)
    p, tolerance = meta["parameters"], meta["tolerance"]
    form = TurboQuant(key_bits=p["key_bits"], value_bits=p["value_bits"], renormalise=p["norm_correction"])
    codec = Codec(form, p["head_dim"], torch.device("cpu"))
    found = torch.tensor(centroids(p["head_dim"], p["key_bits"]))
    torch.testing.assert_close(found, tensors["centroids"], atol=tolerance["centroids_abs"], rtol=0)
    if p["rotation"] == "hadamard":
        torch.testing.assert_close(rotation(p["head_dim"], signs=False), tensors["rotation"], atol=1e-6, rtol=0)
    codec.rotation = tensors["rotation"]

    coded = codec.encode(tensors["keys"], tensors["values"])
    assert torch.equal(unpack(coded.key_codes, p["key_bits"]).int(), tensors["key_codes"])
    assert torch.equal(unpack(coded.value_codes, p["value_bits"]).int(), tensors["value_codes"])
    keys, values = codec.decode(coded)
    torch.testing.assert_close(keys, tensors["keys_read"], atol=tolerance["read_abs"], rtol=0)
    torch.testing.assert_close(values, tensors["values_read"], atol=tolerance["read_abs"], rtol=0)
