"""Reads the .kld files of llama-perplexity, which hold log-probabilities in 16 bits."""

from pathlib import Path

import numpy as np


def log_probabilities(path: Path) -> np.ndarray:
    """A row for each position of the second halves of the windows."""
    data = path.read_bytes()
    if data[:8] != b"_logits_":
        raise ValueError(f"{path} is no .kld file")
    ctx, vocabulary, chunks = np.frombuffer(data, "<i4", 3, 8)
    at = 20 + 4 * ctx * chunks
    width = 2 * ((vocabulary + 1) // 2) + 4
    rows = np.frombuffer(data, "<u2", offset=at).reshape(-1, width)
    head = np.ascontiguousarray(rows[:, :4]).view("<f4").astype(float)
    return head[:, 1:] + head[:, :1] * rows[:, 4 : 4 + vocabulary]
