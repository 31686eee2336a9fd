"""Quantizing and dequantizing numpy arrays in every ggml type, with llama.cpp's bytes."""

from os import PathLike
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

class Tensor(TypedDict):
    name: str
    type: str
    shape: list[int]
    bytes: int

class Plan(TypedDict):
    file_type: str | None
    tensors: list[Tensor]
    total_bytes: int
    bits_per_weight: float

def quantize(array: NDArray[np.float32], type: str, importance: NDArray[np.float32] | None = None) -> NDArray[np.uint8]:
    """Quantize an array of whole rows to the blocks of a ggml type; the last dimension is the bytes of a row."""

def dequantize(blocks: NDArray[np.uint8], type: str) -> NDArray[np.float32]:
    """Restore the values of an array of blocks, whose last dimension is the bytes of a row."""

def plan(model: str | PathLike[str], type: str = "q4_k_m", imatrix: str | PathLike[str] | None = None) -> Plan:
    """Plan the conversion of a checkpoint or GGUF file: the type and size of every tensor. Nothing is written."""
