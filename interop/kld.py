"""Reads the .kld files of llama-perplexity, which hold log-probabilities in 16 bits."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np


def parts(path: Path, rows: int = 64) -> Iterator[np.ndarray]:
    """Log-probabilities, some rows at a time: those of a large vocabulary do not fit into memory."""
    with path.open("rb") as file:
        if file.read(8) != b"_logits_":
            raise ValueError(f"{path} is no .kld file")
        ctx, vocabulary, chunks = np.frombuffer(file.read(12), "<i4")
        file.seek(4 * int(ctx) * int(chunks), 1)
        width = 2 * ((int(vocabulary) + 1) // 2) + 4
        while data := file.read(2 * width * rows):
            found = np.frombuffer(data, "<u2").reshape(-1, width)
            head = np.ascontiguousarray(found[:, :4]).view("<f4").astype(float)
            yield head[:, 1:] + head[:, :1] * found[:, 4 : 4 + vocabulary]


def log_probabilities(path: Path) -> np.ndarray:
    """A row for each position of the second halves of the windows."""
    return np.concatenate(list(parts(path)))
