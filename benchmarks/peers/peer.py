"""A peer of the benchmark: one process that trains one model and answers requests, a JSON object a line.

    python peer.py --kind huggingface [--compile]      BertForMaskedLM / GPT2LMHeadModel of transformers
    python peer.py --kind handwritten [--compile]      the same step written by hand in PyTorch

Requests on standard input, one answer each on standard output (`{"error": …}` where one fails):

    {"do": "open", "folder": …, "batches": …, "precision": "fp32", "dropout": 0, …}   loads weights and batches
    {"do": "loss"}                      loss of the first batch, nothing dropped
    {"do": "trajectory", "steps": 4}    losses of training steps in which nothing is dropped
    {"do": "train", "steps": 3}         seconds and losses of training steps, and the peak memory so far
                                        ("layers": [0, 1] runs these layers, whatever was opened)
    {"do": "products", "products": […]} seconds of matrix products
    {"do": "close"}

Weights come as a Hugging Face folder, batches as a JSON file: both are what the other processes of the benchmark load.
"""

import argparse
import json
import os
import resource
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=["huggingface", "handwritten"], required=True)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    arguments = parser.parse_args()

    # Answers go where standard output was; whatever a library prints goes to standard error.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    peer = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "open":
                peer = open_peer(arguments, request)
                answer = peer.describe()
            elif request["do"] == "close":
                break
            elif peer is None:
                raise RuntimeError(f"{request['do']} before open")
            else:
                answer = handle(peer, request)
        except Exception as error:  # the process lives on: the benchmark says what failed and goes on without it
            answer = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"}
        answers.write(json.dumps(answer) + "\n")
    answers.close()


def open_peer(arguments: argparse.Namespace, request: dict):
    import torch

    from training import Peer

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    if arguments.kind == "huggingface":
        from huggingface import HuggingFaceModel as Model
    else:
        from handwritten import HandwrittenModel as Model
    model = Model(
        request["folder"],
        precision=request.get("precision", "fp32"),
        dropout=request.get("dropout", 0.0),
        compiled=arguments.compile,
        device=arguments.device,
    )
    return Peer(model, request, arguments.device)


def handle(peer, request: dict) -> dict:
    if request["do"] == "loss":
        return {"loss": peer.loss()}
    if request["do"] == "trajectory":
        return {"losses": [peer.step(dropping=False) for _ in range(request["steps"])]}
    if request["do"] == "train":
        seconds, losses = [], []
        for _ in range(request["steps"]):
            start = time.perf_counter()
            losses.append(peer.step(dropping=True, layers=request.get("layers")))
            seconds.append(time.perf_counter() - start)
        return {"seconds": seconds, "losses": losses, "peakBytes": peak_bytes(peer)}
    if request["do"] == "products":
        from products import time_products

        return {"seconds": time_products(request["products"])}
    raise ValueError(f"unknown request {request['do']!r}")


def peak_bytes(peer) -> int:
    """The most memory so far: in tensors on a GPU, else of this process; the unit of ru_maxrss is the system's own."""
    if peer.device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(peer.device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
