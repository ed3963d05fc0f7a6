"""Times matrix products in PyTorch: the rate that the floor of a training step is computed from."""

import time

import torch


def time_products(products: list[dict]) -> list[float]:
    """Seconds of each product, the best of several: {batch, m, n, k, transposeA, transposeB, precision}."""
    return [time_product(product) for product in products]


def time_product(product: dict) -> float:
    batch, m, n, k = (product[key] for key in ("batch", "m", "n", "k"))
    dtype = torch.bfloat16 if product["precision"] == "bf16" else torch.float32
    a = operand(batch, m, k, product["transposeA"], dtype)
    b = operand(batch, k, n, product["transposeB"], dtype)
    out = torch.empty((batch, m, n) if batch > 1 else (m, n), dtype=dtype)
    multiply = torch.bmm if batch > 1 else torch.mm
    best = float("inf")
    spent = 0.0
    while spent < product["seconds"]:
        start = time.perf_counter()
        multiply(a, b, out=out)
        taken = time.perf_counter() - start
        best = min(best, taken)
        spent += taken
    return best


def operand(batch: int, rows: int, columns: int, transposed: bool, dtype: torch.dtype) -> torch.Tensor:
    shape = (columns, rows) if transposed else (rows, columns)
    tensor = torch.randn((batch, *shape) if batch > 1 else shape).to(dtype)
    return tensor.transpose(-1, -2) if transposed else tensor
