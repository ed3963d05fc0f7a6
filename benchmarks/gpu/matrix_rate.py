"""The rate of matrix products that this device reaches in PyTorch: what the share of a training step is taken of.

Random operands (zeros draw less power and run faster), the median of several timed runs, in TFLOP/s. Prints a JSON object.
"""

import json
import statistics
import sys
import time

import torch


def rate(device: str, size: int, dtype: torch.dtype, runs: int, products: int) -> float:
    a = torch.randn(size, size, device=device, dtype=torch.float32).to(dtype)
    b = torch.randn(size, size, device=device, dtype=torch.float32).to(dtype)
    out = torch.empty(size, size, device=device, dtype=dtype)
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    seconds = []
    for run in range(runs + 2):
        wait()
        began = time.perf_counter()
        for _ in range(products):
            torch.mm(a, b, out=out)
        wait()
        if run >= 2:
            seconds.append((time.perf_counter() - began) / products)
    return 2 * size**3 / statistics.median(seconds) / 1e12


def main() -> None:
    device = sys.argv[1]
    is_gpu = device.startswith("cuda")
    size = 8192 if is_gpu else 512
    result = {
        "device": torch.cuda.get_device_name(device) if is_gpu else "cpu",
        "torch": torch.__version__,
        "size": size,
        "bf16": rate(device, size, torch.bfloat16, 7, 10 if is_gpu else 1),
        "fp32": rate(device, size, torch.float32, 3, 2 if is_gpu else 1),
    }
    if is_gpu:
        result["compiledForCuda"] = torch.version.cuda
        result["memoryBytes"] = torch.cuda.get_device_properties(device).total_memory
    print(json.dumps(result))


if __name__ == "__main__":
    main()
