"""The module beside the `gguf` package's own arithmetic, and its refusals."""

import subprocess
import sys
import threading
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


ZEROS = np.zeros((2, 256), np.float32)


@pytest.mark.parametrize(
    "array, name, importance, error, says",
    [
        (np.zeros((2, 100), np.float32), "Q4_K", None, ValueError, "256"),
        (np.full((2, 256), np.nan, np.float32), "Q4_K", None, ValueError, "value at 0 .* not finite"),
        (np.where(np.arange(512) == 300, -np.inf, ZEROS.ravel()), "Q4_K", None, ValueError, "value at 300 .* -inf"),
        (np.where(np.arange(1 << 20) == 900_000, np.float32(3e38), 1).reshape(16, -1), "Q8_0", None, ValueError, "index 900000, too large"),
        (ZEROS, "IQ2_XS", None, ValueError, "importance"),
        (ZEROS, "Q4_K", np.ones(255, np.float32), ValueError, "255"),
        (ZEROS, "Q4_K", np.full(256, np.nan, np.float32), ValueError, "importance holds NaN at index 0"),
        (ZEROS, "Q4_K", -np.ones(256, np.float32), ValueError, "never negative"),
        (ZEROS, "Q4_K", np.ones(512, np.float32)[::2], ValueError, "importance is not contiguous"),
        (ZEROS, "Q4_K", np.ones((1, 256), np.float32), TypeError, "importance"),
        (ZEROS, "Q4_K", np.ones(256), TypeError, "importance"),
        (ZEROS[:, ::2], "Q8_0", None, ValueError, "contiguous"),
        (np.broadcast_to(ZEROS[0], (3, 256)), "Q4_K", None, ValueError, "contiguous"),
        (np.zeros(1025, np.uint8)[1:].view(np.float32), "Q4_K", None, ValueError, "aligned"),
        (ZEROS, "Q4_Z", None, ValueError, "Q4_Z.*Q4_K"),
        (ZEROS, "Q8_1", None, ValueError, "Q8_1"),
        (ZEROS, "", None, ValueError, "type"),
        (ZEROS, None, None, TypeError, "type"),
        (np.zeros((), np.float32), "Q8_0", None, ValueError, "no dimensions"),
        (np.zeros((2, 256)), "Q4_K", None, TypeError, "array"),
        (np.zeros((2, 256), ">f4"), "Q4_K", None, TypeError, "array"),
        (np.zeros((2, 256), np.float16), "Q4_K", None, TypeError, "array"),
        (np.zeros((2, 256), np.int8), "Q4_K", None, TypeError, "array"),
        (np.zeros((2, 256), object), "Q4_K", None, TypeError, "array"),
        ([[0.0] * 256], "Q4_K", None, TypeError, "array"),
        (None, "Q4_K", None, TypeError, "array"),
    ],
)
def test_what_does_not_fit_is_refused(array, name, importance, error, says):
    with pytest.raises(error, match=f"(?s){says}"):
        quantwright.quantize(array, name, importance)


@pytest.mark.parametrize(
    "blocks, name, error, says",
    [
        (np.zeros((2, 100), np.uint8), "Q4_K", ValueError, "multiple of the 144"),
        (np.zeros((2, 288), np.uint8)[:, ::2], "Q4_K", ValueError, "contiguous"),
        (np.asfortranarray(np.zeros((2, 144), np.uint8)), "Q4_K", ValueError, "contiguous"),
        (np.zeros((2, 144), np.int8), "Q4_K", TypeError, "blocks"),
        (np.zeros((), np.uint8), "Q8_0", ValueError, "no dimensions"),
        (np.zeros((2, 144), np.uint8), "Q9_K", ValueError, "Q9_K"),
        (b"bytes", "Q4_K", TypeError, "blocks"),
    ],
)
def test_blocks_that_are_none_are_refused(blocks, name, error, says):
    with pytest.raises(error, match=says):
        quantwright.dequantize(blocks, name)


@pytest.mark.parametrize("name", ["F32", "F16", "Q8_0", "Q4_K"])
def test_columns_are_not_taken_for_rows(name):
    """An array in Fortran's order lies in one piece too."""
    ordered = np.asfortranarray(WEIGHTS[0])
    with pytest.raises(ValueError, match="row by row"):
        quantwright.quantize(ordered, name)
    expected = quantwright.quantize(WEIGHTS[0], name)
    np.testing.assert_array_equal(quantwright.quantize(ordered.copy("C"), name), expected)
    # What has one row or one column is in both orders.
    row = np.asfortranarray(WEIGHTS[0, :1])
    np.testing.assert_array_equal(quantwright.quantize(row, name), expected[:1])


def test_arrays_are_read_where_they_are():
    """Slices of rows, arrays that cannot be written, and those of many dimensions."""
    expected = quantwright.quantize(WEIGHTS, "Q6_K")
    np.testing.assert_array_equal(quantwright.quantize(WEIGHTS[1:], "Q6_K"), expected[1:])
    locked = WEIGHTS.copy()
    locked.flags.writeable = False
    np.testing.assert_array_equal(quantwright.quantize(locked, "q6_k"), expected)
    many = WEIGHTS.reshape((1,) * 29 + WEIGHTS.shape)
    assert quantwright.quantize(many, "Q6_K").shape == many.shape[:-1] + expected.shape[-1:]
    flat = quantwright.quantize(WEIGHTS[0, 0], "Q6_K")
    assert flat.shape == expected.shape[-1:] and quantwright.dequantize(flat, "Q6_K").shape == (512,)


def test_the_parts_of_a_large_array_come_to_their_places():
    large = RNG.normal(size=(600, 1024)).astype(np.float32)
    blocks = quantwright.quantize(large, "Q4_K")
    for row in (0, 63, 64, 65, 127, 128, 599):
        np.testing.assert_array_equal(blocks[row], quantwright.quantize(large[row], "Q4_K"))
    values = quantwright.dequantize(blocks, "Q4_K")
    np.testing.assert_array_equal(values[599], quantwright.dequantize(blocks[599], "Q4_K"))


@pytest.mark.parametrize("shape", [(0,), (0, 256), (3, 0), (0, 0), (2, 0, 256)])
def test_empty_arrays_stay_empty(shape):
    blocks = quantwright.quantize(np.zeros(shape, np.float32), "Q4_K")
    assert blocks.dtype == np.uint8 and blocks.shape == (*shape[:-1], shape[-1] // 256 * 144)
    assert quantwright.dequantize(blocks, "Q4_K").shape == shape


def test_too_little_memory_is_an_error():
    """In a process that may have two gigabytes, for values of as many."""
    program = """
import resource
import numpy as np
import quantwright

quantwright.quantize(np.zeros((2, 256), np.float32), "Q4_K")
blocks = np.zeros((1 << 20, 108), np.uint8)
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
try:
    quantwright.dequantize(blocks, "TQ1_0")
except MemoryError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "refused\n", done.stderr


def test_other_threads_go_on():
    done = []
    thread = threading.Thread(target=lambda: done.append(quantwright.quantize(WEIGHTS, "Q6_K").sum()))
    thread.start()
    here = quantwright.quantize(WEIGHTS, "Q6_K").sum()
    thread.join()
    assert done == [here]


def test_a_plan_names_every_tensor():
    plan = quantwright.plan(FIXTURES / "tiny-llama2", "q4_k_m")
    types = {tensor["name"]: tensor["type"] for tensor in plan["tensors"]}
    assert plan["file_type"] == "Q4_K_M" and types["output.weight"] == "Q6_K"
    assert plan["total_bytes"] > sum(tensor["bytes"] for tensor in plan["tensors"])
    with pytest.raises(OSError):
        quantwright.plan("no/such/checkpoint")
    with pytest.raises(ValueError, match="q9"):
        quantwright.plan(FIXTURES / "tiny-llama2", "q9")
    with pytest.raises(TypeError):
        quantwright.plan(None)
    assert quantwright.plan(str(FIXTURES / "tiny-llama2"))["total_bytes"] == plan["total_bytes"]
