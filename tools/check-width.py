"""Holds a checkpoint and what `espalier grow` made of it to each other by Hugging Face's own models.

    .venv-reference/bin/python tools/check-width.py BEFORE AFTER

Prints max |logits before - after| over random tokens, and the largest logit. Function-preserving growth with every unit
copied equally often gives about 1e-6 of it.
"""

import sys

import torch
from transformers import AutoConfig, BertForMaskedLM, GPT2LMHeadModel

MODELS = {"bert": BertForMaskedLM, "gpt2": GPT2LMHeadModel}


def logits(folder: str) -> torch.Tensor:
    config = AutoConfig.from_pretrained(folder)
    model = MODELS[config.model_type].from_pretrained(folder, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(1)
    length = min(64, config.max_position_embeddings)
    tokens = torch.randint(0, config.vocab_size, (2, length), generator=generator)
    with torch.no_grad():
        return model(input_ids=tokens).logits


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    before, after = (logits(folder) for folder in sys.argv[1:])
    print(f"max |difference| {(before - after).abs().max():.3g}, largest logit {before.abs().max():.3g}")
