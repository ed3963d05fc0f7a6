"""Writes the reference numbers that packages/models is held to: Hugging Face's own models, run in float64.

Run by hand, in a virtual environment of its own, at the repository root:

    python3 -m venv .venv-reference
    .venv-reference/bin/pip install torch==2.11.0 transformers==4.57.1
    .venv-reference/bin/python tools/make-fixtures.py

(A few gigabytes: torch's Python module does not load without its CUDA libraries, though nothing here uses a GPU.)
For each family, packages/models/fixtures/<family>/ gets

    model.safetensors, config.json   a tiny model as save_pretrained writes it, every parameter perturbed
    batch.json                       input_ids, attention_mask, labels (-100: not counted), with padding
    reference.safetensors            logits [batch, seq, vocab] of each case
    reference.json                   loss and gradient norms of each case; losses of an AdamW trajectory

The weights are float32; the computation on them is float64, so that a tolerance is spent on our rounding alone.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

FIXTURES = Path(__file__).resolve().parent.parent / "packages" / "models" / "fixtures"
BATCH, SEQUENCE = 3, 11
UNIQUE_LAYERS = 3
LAYER_MAPS = {
    "identity": [0, 1, 2],
    "interpolated": [0, 0, 1, 1, 2, 2],
    "stacked": [0, 1, 2, 0, 1, 2],
    "arbitrary": [2, 0, 0, 1, 2],
}
TRAINING = {"steps": 20, "learningRate": 2e-3, "weightDecay": 0.01, "clip": 0.5}


def make_bert():
    return BertForMaskedLM(
        BertConfig(
            vocab_size=61,
            hidden_size=24,
            num_hidden_layers=UNIQUE_LAYERS,
            num_attention_heads=3,
            intermediate_size=40,
            max_position_embeddings=16,
            type_vocab_size=2,
            attn_implementation="eager",
        )
    )


def make_gpt2():
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=53,
            n_embd=32,
            n_layer=UNIQUE_LAYERS,
            n_head=4,
            n_inner=72,
            n_positions=14,
            bos_token_id=None,
            eos_token_id=None,
            attn_implementation="eager",
        )
    )


def perturb(model, generator):
    """Moves every parameter off its initial value, biases and layer norms too."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))


def make_batch(vocabulary, causal, generator):
    ids = torch.randint(0, vocabulary, (BATCH, SEQUENCE), generator=generator)
    ids[0, 3] = 0  # BERT's padding token as a real one: its row gets no gradient from the look-up
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    mask[2, 9:] = 0
    ids[mask == 0] = 0
    if causal:
        labels = ids.clone()
    else:
        labels = torch.full_like(ids, -100)
        chosen = torch.rand(ids.shape, generator=generator) < 0.35
        labels[chosen] = torch.randint(0, vocabulary, ids.shape, generator=generator)[chosen]
    labels[mask == 0] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def layers_of(model):
    return (model.bert.encoder, "layer") if hasattr(model, "bert") else (model.transformer, "h")


def run(model, batch, layer_map):
    """Forward and backward through shared layers; the model keeps its unique layers."""
    owner, name = layers_of(model)
    unique = getattr(owner, name)
    setattr(owner, name, torch.nn.ModuleList([unique[layer] for layer in layer_map]))
    model.config.num_hidden_layers = len(layer_map)
    try:
        model.zero_grad(set_to_none=True)
        output = model(**batch, **({} if hasattr(model, "bert") else {"use_cache": False}))
        output.loss.backward()
    finally:
        setattr(owner, name, unique)
        model.config.num_hidden_layers = len(unique)
    return output


def decays(name):
    layer_norm = "LayerNorm" in name or ".ln_" in name
    return not (name.endswith(".bias") or layer_norm)


def train(model, batch):
    named = list(model.named_parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for n, p in named if decays(n)], "weight_decay": TRAINING["weightDecay"]},
            {"params": [p for n, p in named if not decays(n)], "weight_decay": 0.0},
        ],
        lr=TRAINING["learningRate"],
        betas=(0.9, 0.999),
        eps=1e-8,
    )
    losses, norms = [], []
    for _ in range(TRAINING["steps"]):
        output = run(model, batch, list(range(UNIQUE_LAYERS)))
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), TRAINING["clip"])
        optimizer.step()
        losses.append(output.loss.item())
        norms.append(norm.item())
    return losses, norms


def make(family, model, causal, seed):
    generator = torch.Generator().manual_seed(seed)
    folder = FIXTURES / family
    folder.mkdir(parents=True, exist_ok=True)
    perturb(model, generator)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    batch = make_batch(model.config.vocab_size, causal, generator)
    (folder / "batch.json").write_text(json.dumps({key: value.tolist() for key, value in batch.items()}) + "\n")

    model.eval().double()  # eval: no dropout
    logits, cases = {}, {}
    for name, layer_map in LAYER_MAPS.items():
        output = run(model, batch, layer_map)
        gradients = {n: p.grad.norm().item() for n, p in model.named_parameters()}
        logits[name] = output.logits.detach().float().contiguous()
        cases[name] = {
            "layerMap": layer_map,
            "loss": output.loss.item(),
            "globalGradientNorm": sum(norm**2 for norm in gradients.values()) ** 0.5,
            "gradientNorms": gradients,
        }
    losses, norms = train(model, batch)
    save_file(logits, folder / "reference.safetensors")
    reference = {"cases": cases, "training": {**TRAINING, "losses": losses, "gradientNorms": norms}}
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)
    (folder / "reference.json").write_text(json.dumps(reference, indent=1) + "\n")
    print(f"{family}: loss {losses[0]:.6f} -> {losses[-1]:.6f}, gradient norms {max(norms):.3f} .. {min(norms):.3f}")


torch.manual_seed(7)
torch.set_num_threads(1)
make("bert", make_bert(), causal=False, seed=11)
make("gpt2", make_gpt2(), causal=True, seed=13)
