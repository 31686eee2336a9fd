"""The module beside the `gguf` package's own arithmetic, and its refusals."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import quantwright

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
RNG = np.random.default_rng(1)
WEIGHTS = RNG.normal(size=(3, 40, 512)).astype(np.float32)


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16", "BF16"])
def test_blocks_equal_those_of_gguf(name):
    expected = gguf.quantize(WEIGHTS, gguf.GGMLQuantizationType[name])
    blocks = quantwright.quantize(WEIGHTS, name)
    assert blocks.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "name", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "IQ3_S", "IQ2_XXS", "IQ1_M", "TQ1_0", "MXFP4"]
)
def test_values_equal_those_of_gguf(name):
    importance = RNG.random(512).astype(np.float32)
    blocks = quantwright.quantize(WEIGHTS, name, importance)
    values = quantwright.dequantize(blocks, name)
    assert values.shape == WEIGHTS.shape
    expected = gguf.dequantize(blocks, gguf.GGMLQuantizationType[name])
    np.testing.assert_array_equal(values, expected)


def test_what_does_not_fit_is_refused():
    for array, name, importance, says in [
        (np.zeros((2, 100), np.float32), "Q4_K", None, "256"),
        (np.full((2, 256), np.nan, np.float32), "Q4_K", None, "not finite"),
        (np.zeros((2, 256), np.float32), "IQ2_XS", None, "importance"),
        (np.zeros((2, 256), np.float32), "Q4_K", np.ones(255, np.float32), "255"),
        (np.zeros((256, 2), np.float32).T, "Q4_K", None, "contiguous"),
        (np.zeros((2, 256), np.float32), "Q4_Z", None, "not a ggml type"),
        (np.float32(1).reshape(()), "Q8_0", None, "no dimensions"),
    ]:
        with pytest.raises(ValueError, match=says):
            quantwright.quantize(array, name, importance)
    with pytest.raises(TypeError):
        quantwright.quantize(np.zeros((2, 256)), "Q4_K")
    with pytest.raises(ValueError, match="multiple"):
        quantwright.dequantize(np.zeros((2, 100), np.uint8), "Q4_K")


def test_empty_arrays_stay_empty():
    blocks = quantwright.quantize(np.zeros((0, 256), np.float32), "Q4_K")
    assert blocks.shape == (0, 144)
    assert quantwright.dequantize(blocks, "Q4_K").shape == (0, 256)


def test_a_plan_names_every_tensor():
    plan = quantwright.plan(FIXTURES / "tiny-llama2", "q4_k_m")
    types = {tensor["name"]: tensor["type"] for tensor in plan["tensors"]}
    assert plan["file_type"] == "Q4_K_M" and types["output.weight"] == "Q6_K"
    assert plan["total_bytes"] > sum(tensor["bytes"] for tensor in plan["tensors"])
    with pytest.raises(OSError):
        quantwright.plan("no/such/checkpoint")
