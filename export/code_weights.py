"""How the decoder of a planner that writes code multiplies by weights of eight bits.

MatMulNBits of ONNX Runtime: weights in blocks of BLOCK values with a scale each, and rows of the input
quantised one by one while it runs. So a row's result does not depend on which rows stand beside it, and a
cache filled in pieces is that of one pass. DynamicQuantizeLinear with MatMulInteger is quicker for many rows,
but has one scale for all of them: an answer that is verified in one pass would not be that of one token at a
time.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from keystep.export.code_decoder import MICROSOFT, GraphWriter

BITS, BLOCK = 8, 64
MIDDLE = 128  # of unsigned bytes: zero
COMPUTE_INT8 = 4  # the operator's `accuracy_level`


def int8_linear(graph: GraphWriter, inputs: str, weight: Tensor, name: str) -> str:
    """See `keystep.export.code_decoder.Linear`."""
    values, scales = quantized(weight.detach().float().numpy())
    rows, width = weight.shape
    given = [inputs, graph.constant(f"{name}.weight", values), graph.constant(f"{name}.scale", scales)]
    return graph.add(
        "MatMulNBits",
        given,
        name,
        domain=MICROSOFT,
        K=width,
        N=rows,
        bits=BITS,
        block_size=BLOCK,
        accuracy_level=COMPUTE_INT8,
    )


def quantized(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [O, blocks, BLOCK] around MIDDLE, and float32 scales [O * blocks], of [O, I].

    The scale of a block is its greatest size by 127; a block of zeros has 0. What is beyond I is zero.
    """
    rows, width = weight.shape
    blocks = -(-width // BLOCK)
    padded = np.zeros((rows, blocks * BLOCK), np.float32)
    padded[:, :width] = weight
    parts = padded.reshape(rows, blocks, BLOCK)
    scales = np.abs(parts).max(axis=2) / np.float32(127)
    whole = np.rint(parts / np.where(scales > 0, scales, 1)[..., None]).clip(-127, 127)
    return (whole + MIDDLE).astype(np.uint8), scales.astype(np.float32).reshape(-1)
