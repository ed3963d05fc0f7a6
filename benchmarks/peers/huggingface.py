"""Times a training step of Hugging Face transformers on PyTorch: the peer that `npm run bench` puts beside Espalier.

BertForMaskedLM or GPT2LMHeadModel with scaled-dot-product attention, torch.optim.AdamW(fused=True), gradient clipping,
the same batch shape, the same number of counted positions and the same threads. Prints one JSON object.

Needs torch, transformers and numpy in the Python that runs it; `npm run bench` makes such an environment in
.venv-reference.
"""

import argparse
import json
import resource
import statistics
import time

import torch
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel


def build(arguments: argparse.Namespace) -> torch.nn.Module:
    if arguments.family == "bert":
        config = BertConfig(
            vocab_size=arguments.vocabulary,
            hidden_size=arguments.hidden,
            num_hidden_layers=arguments.depth,
            num_attention_heads=arguments.heads,
            intermediate_size=4 * arguments.hidden,
            max_position_embeddings=arguments.sequence,
            hidden_dropout_prob=arguments.dropout,
            attention_probs_dropout_prob=arguments.dropout,
            attn_implementation="sdpa",
        )
        return BertForMaskedLM(config)
    config = GPT2Config(
        vocab_size=arguments.vocabulary,
        n_embd=arguments.hidden,
        n_layer=arguments.depth,
        n_head=arguments.heads,
        n_positions=arguments.sequence,
        resid_pdrop=arguments.dropout,
        embd_pdrop=arguments.dropout,
        attn_pdrop=arguments.dropout,
        use_cache=False,
        attn_implementation="sdpa",
    )
    return GPT2LMHeadModel(config)


def make_batch(arguments: argparse.Namespace) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = (arguments.batch, arguments.sequence)
    ids = torch.randint(5, arguments.vocabulary, shape, generator=generator)
    if arguments.family == "gpt2":
        return {"input_ids": ids, "labels": ids}
    counted = max(1, round(0.15 * arguments.sequence))
    labels = torch.full(shape, -100)
    for row in range(arguments.batch):
        positions = torch.randperm(arguments.sequence, generator=generator)[:counted]
        labels[row, positions] = ids[row, positions]
    return {"input_ids": ids, "labels": labels}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=["bert", "gpt2"], default="bert")
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--sequence", type=int, default=128)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = build(arguments).train()
    batch = make_batch(arguments)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    seconds = []
    loss = float("nan")
    for step in range(arguments.warm_up + arguments.steps):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        output = model(**batch)
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss = output.loss.item()
        if step >= arguments.warm_up:
            seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    print(
        json.dumps(
            {
                "stepSeconds": median,
                "tokensPerSecond": arguments.batch * arguments.sequence / median,
                "peakBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "loss": loss,
                "version": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
