"""The same training step written by hand in PyTorch: what someone who knows the library would write for speed.

Functional, q, k and v as one product, scaled-dot-product attention, the head on the counted positions only, float32
weights, layer norm and softmax statistics. `hidden` is [batch · seq, hidden].
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file


class HandwrittenModel:
    version = f"torch {torch.__version__}"

    def __init__(self, folder: str, *, precision: str, dropout: float, compiled: bool, device: str):
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        stored = load_file(str(Path(folder) / "model.safetensors"))
        self.causal = config["model_type"] == "gpt2"
        self.autocast = precision == "bf16"
        self.device_type = device.split(":")[0]
        read, self.function, self.depth = (
            (gpt2_weights, gpt2_loss, config["n_layer"])
            if self.causal
            else (bert_weights, bert_loss, config["num_hidden_layers"])
        )
        dtype = torch.bfloat16 if precision == "bf16-pure" else torch.float32
        self.weights = {
            name: torch.nn.Parameter(tensor.contiguous().to(device, dtype)) for name, tensor in read(stored, self.depth).items()
        }
        self.heads = config["n_head" if self.causal else "num_attention_heads"]
        self.epsilon = config["layer_norm_epsilon" if self.causal else "layer_norm_eps"]
        self.padding = None if self.causal else config.get("pad_token_id")
        self.dropout = dropout
        self.compiled = torch.compile(self.function) if compiled else None

    def parameters(self) -> list[tuple[str, torch.nn.Parameter]]:
        return list(self.weights.items())

    def loss(self, batch, layers: list[int] | None, dropping: bool) -> torch.Tensor:
        order = list(range(self.depth)) if layers is None else layers
        rate = self.dropout if dropping else 0.0
        function = self.compiled if self.compiled is not None and rate == self.dropout else self.function
        with torch.autocast(self.device_type, torch.bfloat16, enabled=self.autocast):
            return function(
                self.weights,
                batch.input_ids,
                batch.counted,
                batch.targets,
                order,
                self.heads,
                self.epsilon,
                rate,
                self.padding,
            )


def drop(x: torch.Tensor, rate: float) -> torch.Tensor:
    return F.dropout(x, rate) if rate > 0 else x


def attention(packed: torch.Tensor, batch: int, length: int, heads: int, causal: bool, rate: float) -> torch.Tensor:
    """[batch · seq, 3 · hidden] → [batch · seq, hidden]"""
    query, key, value = packed.view(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    attended = F.scaled_dot_product_attention(query, key, value, dropout_p=rate, is_causal=causal)
    return attended.transpose(1, 2).reshape(batch * length, -1)


def bert_weights(stored: dict, depth: int) -> dict:
    weights = {
        "words": stored["bert.embeddings.word_embeddings.weight"],
        "positions": stored["bert.embeddings.position_embeddings.weight"],
        "types": stored["bert.embeddings.token_type_embeddings.weight"],
        "layernorm.weight": stored["bert.embeddings.LayerNorm.weight"],
        "layernorm.bias": stored["bert.embeddings.LayerNorm.bias"],
        "head.weight": stored["cls.predictions.transform.dense.weight"],
        "head.bias": stored["cls.predictions.transform.dense.bias"],
        "head.layernorm.weight": stored["cls.predictions.transform.LayerNorm.weight"],
        "head.layernorm.bias": stored["cls.predictions.transform.LayerNorm.bias"],
        "decoder.bias": stored["cls.predictions.bias"],
    }
    names = {
        "attended": "attention.output.dense",
        "layernorm_1": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "layernorm_2": "output.LayerNorm",
    }
    for layer in range(depth):
        prefix = f"bert.encoder.layer.{layer}."
        for kind in ("weight", "bias"):
            parts = [stored[f"{prefix}attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            weights[f"{layer}.packed.{kind}"] = torch.cat(parts)
            for ours, theirs in names.items():
                weights[f"{layer}.{ours}.{kind}"] = stored[f"{prefix}{theirs}.{kind}"]
    return weights


def bert_loss(weights, input_ids, counted, targets, layers, heads, epsilon, rate, padding) -> torch.Tensor:
    batch, length = input_ids.shape
    size = weights["words"].shape[1]

    def dense(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def normalise(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (size,), weights[f"{name}.weight"], weights[f"{name}.bias"], epsilon)

    embedded = F.embedding(input_ids, weights["words"], padding_idx=padding)
    embedded = embedded + (weights["positions"][:length] + weights["types"][0])
    hidden = drop(normalise(embedded.view(-1, size), "layernorm"), rate)
    for layer in layers:
        attended = attention(dense(hidden, f"{layer}.packed"), batch, length, heads, False, rate)
        middle = normalise(hidden + drop(dense(attended, f"{layer}.attended"), rate), f"{layer}.layernorm_1")
        output = dense(F.gelu(dense(middle, f"{layer}.up")), f"{layer}.down")
        hidden = normalise(middle + drop(output, rate), f"{layer}.layernorm_2")
    transformed = normalise(F.gelu(dense(hidden.index_select(0, counted), "head")), "head.layernorm")
    logits = F.linear(transformed, weights["words"], weights["decoder.bias"])
    return F.cross_entropy(logits.float(), targets)


def gpt2_weights(stored: dict, depth: int) -> dict:
    weights = {
        "tokens": stored["transformer.wte.weight"],
        "positions": stored["transformer.wpe.weight"],
        "layernorm.weight": stored["transformer.ln_f.weight"],
        "layernorm.bias": stored["transformer.ln_f.bias"],
    }
    names = {
        "layernorm_1": "ln_1",
        "packed": "attn.c_attn",
        "attended": "attn.c_proj",
        "layernorm_2": "ln_2",
        "up": "mlp.c_fc",
        "down": "mlp.c_proj",
    }
    for layer in range(depth):
        for ours, theirs in names.items():
            for kind in ("weight", "bias"):
                tensor = stored[f"transformer.h.{layer}.{theirs}.{kind}"]
                # Conv1D keeps [in, out]; linear layers want [out, in].
                weights[f"{layer}.{ours}.{kind}"] = tensor.t() if tensor.dim() == 2 else tensor
    return weights


def gpt2_loss(weights, input_ids, counted, targets, layers, heads, epsilon, rate, padding) -> torch.Tensor:
    batch, length = input_ids.shape
    size = weights["tokens"].shape[1]

    def dense(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def normalise(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (size,), weights[f"{name}.weight"], weights[f"{name}.bias"], epsilon)

    embedded = F.embedding(input_ids, weights["tokens"]) + weights["positions"][:length]
    hidden = drop(embedded.view(-1, size), rate)
    for layer in layers:
        packed = dense(normalise(hidden, f"{layer}.layernorm_1"), f"{layer}.packed")
        attended = attention(packed, batch, length, heads, True, rate)
        hidden = hidden + drop(dense(attended, f"{layer}.attended"), rate)
        up = F.gelu(dense(normalise(hidden, f"{layer}.layernorm_2"), f"{layer}.up"), approximate="tanh")
        hidden = hidden + drop(dense(up, f"{layer}.down"), rate)
    final = normalise(hidden.index_select(0, counted), "layernorm")
    return F.cross_entropy(F.linear(final, weights["tokens"]).float(), targets)
