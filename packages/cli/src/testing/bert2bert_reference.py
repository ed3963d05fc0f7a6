"""bert2BERT's width operators in PyTorch, for bert2bert-reference.test.ts: written from the paper's equations (Chen et
al., ACL 2022, section 3.2 and 3.3), a parameter at a time, not from the growth map.

Arguments: source folder, growth map, grown folder, fpi or aki. Of the map only the unit maps are taken: which source
channel, head channel or feed-forward unit each target unit is a copy of. Prints as JSON the largest difference from
the grown weights, and of the logits of Hugging Face's models of source and target.
"""

import json
import os
import sys

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, BertForMaskedLM, GPT2LMHeadModel

torch.set_num_threads(1)
source_folder, map_file, grown_folder, operator = sys.argv[1:]
classes = {"bert": BertForMaskedLM, "gpt2": GPT2LMHeadModel}
source = load_file(os.path.join(source_folder, "model.safetensors"))
grown = load_file(os.path.join(grown_folder, "model.safetensors"))
growth_map = json.load(open(map_file))
config = AutoConfig.from_pretrained(source_folder)
target = AutoConfig.from_pretrained(grown_folder)
depth = config.num_hidden_layers
is_bert = config.model_type == "bert"


def unit_map(parameter, axis):
    """Source unit of each target unit: the indices of the first term, whose scales are not looked at."""
    term = growth_map["parameters"][parameter]["weight"]["terms"][0]
    units = []
    for part in growth_map["axes"][term["axes"][axis]]["indices"].split(","):
        first, _, last = part.partition("-")
        units.extend(range(int(first), int(last or first) + 1))
    return torch.tensor(units)


def counts(units, size):
    return torch.bincount(units, minlength=size).float()


def widened(matrix, g_in, g_out):
    """Equations 5 to 8: rows (inputs) divided by their copy counts, then columns (outputs) copied."""
    inner = matrix[g_in, :] / counts(g_in, matrix.shape[0])[g_in].unsqueeze(1)
    return inner[:, g_out]


if is_bert:
    hidden = unit_map("bert.embeddings.word_embeddings.weight", 1)
    layer_name = "bert.encoder.layer.{}."
    attention = [unit_map(layer_name.format(l) + "attention.self.query.weight", 0) for l in range(depth)]
    inner = [unit_map(layer_name.format(l) + "intermediate.dense.weight", 0) for l in range(depth)]
    matrices = {
        "attention.self.query": lambda l: (hidden, attention[l]),
        "attention.self.key": lambda l: (hidden, attention[l]),
        "attention.self.value": lambda l: (hidden, attention[l]),
        "attention.output.dense": lambda l: (attention[l], hidden),
        "intermediate.dense": lambda l: (hidden, inner[l]),
        "output.dense": lambda l: (inner[l], hidden),
    }
    norms = ["attention.output.LayerNorm", "output.LayerNorm"]
else:
    hidden = unit_map("transformer.wte.weight", 1)
    layer_name = "transformer.h.{}."
    inner = [unit_map(layer_name.format(l) + "mlp.c_fc.weight", 1) for l in range(depth)]
    packed = [unit_map(layer_name.format(l) + "attn.c_attn.weight", 1) for l in range(depth)]
    # Query, key and value lie beside each other and have the same heads.
    attention = [units[: target.hidden_size] for units in packed]
    for own, units in zip(attention, packed):
        assert torch.equal(units, torch.cat([own + part * config.hidden_size for part in range(3)]))
    matrices = {
        "attn.c_attn": lambda l: (hidden, packed[l]),
        "attn.c_proj": lambda l: (attention[l], hidden),
        "mlp.c_fc": lambda l: (hidden, inner[l]),
        "mlp.c_proj": lambda l: (inner[l], hidden),
    }
    norms = ["ln_1", "ln_2"]

for head in attention:
    size = config.hidden_size // config.num_attention_heads
    blocks = head.view(-1, size)
    assert torch.equal(blocks, blocks[:, :1] + torch.arange(size)), "heads are not copied whole"


def by_fpi(l, suffix):
    g_in, g_out = matrices[suffix](l)
    weight = source[layer_name.format(l) + suffix + ".weight"]
    # Linear layers of BERT hold [out, in], those of GPT-2 [in, out].
    matrix = widened(weight.T if is_bert else weight, g_in, g_out)
    return matrix, source[layer_name.format(l) + suffix + ".bias"][g_out]


def by_aki(l, suffix):
    """Section 3.3: the outputs that are there from the layer itself, the new ones from the next layer."""
    weight, bias = by_fpi(l, suffix)
    if l + 1 == depth:
        return weight, bias
    next_weight, next_bias = by_fpi(l + 1, suffix)
    parts = 3 if suffix == "attn.c_attn" else 1
    old = source[layer_name.format(l) + suffix + ".bias"].numel() // parts
    is_new = (torch.arange(bias.numel() // parts) >= old).repeat(parts)
    return torch.where(is_new, next_weight, weight), torch.where(is_new, next_bias, bias)


expected = {}
for l in range(depth):
    for suffix in matrices:
        weight, bias = (by_aki if operator == "aki" else by_fpi)(l, suffix)
        expected[layer_name.format(l) + suffix + ".weight"] = weight.T if is_bert else weight
        expected[layer_name.format(l) + suffix + ".bias"] = bias
    for norm in norms:
        for part in ("weight", "bias"):
            name = f"{layer_name.format(l)}{norm}.{part}"
            expected[name] = source[name][hidden]

# The layer norm before the tied decoder is divided, or copied channels would count several times in the logits.
copies = counts(hidden, config.hidden_size)[hidden]
if is_bert:
    for table in ("word", "position", "token_type"):
        name = f"bert.embeddings.{table}_embeddings.weight"
        expected[name] = source[name][:, hidden]
    for part in ("weight", "bias"):
        name = f"bert.embeddings.LayerNorm.{part}"
        expected[name] = source[name][hidden]
        name = f"cls.predictions.transform.LayerNorm.{part}"
        expected[name] = source[name][hidden] / copies
    name = "cls.predictions.transform.dense."
    expected[name + "weight"] = widened(source[name + "weight"].T, hidden, hidden).T
    expected[name + "bias"] = source[name + "bias"][hidden]
    expected["cls.predictions.bias"] = source["cls.predictions.bias"]
else:
    for name in ("transformer.wte.weight", "transformer.wpe.weight"):
        expected[name] = source[name][:, hidden]
    for part in ("weight", "bias"):
        name = f"transformer.ln_f.{part}"
        expected[name] = source[name][hidden] / copies

assert set(expected) == set(grown), set(expected) ^ set(grown)
difference = max((expected[name] - grown[name]).abs().max().item() for name in expected)


def logits(folder):
    model = classes[config.model_type].from_pretrained(folder).eval()
    with torch.no_grad():
        return model(torch.tensor([[1, 5, 2, 9, 4]])).logits


before, after = logits(source_folder), logits(grown_folder)
print(
    json.dumps(
        {
            "parameters": len(expected),
            "weights": difference,
            "largest": max(tensor.abs().max().item() for tensor in expected.values()),
            "copied": sorted(set(counts(hidden, config.hidden_size).int().tolist())),
            "logits": (before - after).abs().max().item(),
            "spread": before.std().item(),
        }
    )
)
