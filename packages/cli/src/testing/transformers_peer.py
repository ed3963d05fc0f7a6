"""Hugging Face's side of the exchange, for hugging-face.test.ts.

Reads {"make": folder or null, "load": [{"folder", "ids", "texts", "prompt", "newTokens"}]} from standard input, makes
models of Hugging Face's own in that folder, loads what Espalier exported, and prints as JSON what it found.
"""

import contextlib
import json
import os
import sys

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false")

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
)

torch.set_num_threads(1)
classes = {"bert": BertForMaskedLM, "gpt2": GPT2LMHeadModel}


def logits_of(model, ids):
    with torch.no_grad():
        return model.eval().float()(torch.tensor([ids])).logits[0].tolist()


def load(request):
    folder = request["folder"]
    config = AutoConfig.from_pretrained(folder)
    model, info = classes[config.model_type].from_pretrained(folder, output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = {
        "loading": {key: sorted(map(str, value)) for key, value in info.items()},
        "logits": logits_of(model, request["ids"]),
        "ids": [tokenizer(text, add_special_tokens=False)["input_ids"] for text in request["texts"]],
        "decoded": [
            tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in request["texts"]
        ],
        "idsWithSpecialTokens": [tokenizer(text)["input_ids"] for text in request["texts"]],
        "inputs": sorted(tokenizer("a").keys()),
        "maxLength": tokenizer.model_max_length,
        "special": {key: getattr(tokenizer, key) for key in ("mask_token_id", "pad_token_id", "eos_token_id")},
        "length": len(tokenizer),
        "generated": None,
    }
    if "prompt" in request:
        inputs = tokenizer(request["prompt"], return_tensors="pt")
        output = model.generate(**inputs, max_new_tokens=request["newTokens"], do_sample=False)
        found["generated"] = tokenizer.decode(output[0], skip_special_tokens=True)
    return found


def make(folder, ids):
    """Models that people have: other heads, other precisions, shards, older names, untied weights."""
    torch.manual_seed(0)
    bert = dict(vocab_size=90, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40)
    bert |= dict(max_position_embeddings=24, initializer_range=0.2)
    gpt2 = dict(vocab_size=90, n_embd=16, n_layer=2, n_head=2, n_positions=24, initializer_range=0.2)
    gpt2 |= dict(bos_token_id=0, eos_token_id=0)
    at = lambda name: os.path.join(folder, name)

    pretraining = BertForPreTraining(BertConfig(**bert))
    pretraining.save_pretrained(at("bert-pretraining-sharded"), max_shard_size="8KB")
    masked = BertForMaskedLM.from_pretrained(at("bert-pretraining-sharded"))
    masked.half().save_pretrained(at("bert-half"))
    masked.to(torch.bfloat16).save_pretrained(at("bert-bfloat16"))
    # The names that the first checkpoints had.
    older = BertForMaskedLM.from_pretrained(at("bert-pretraining-sharded"))
    older.save_pretrained(at("bert-older-names"))
    tensors = load_file(at("bert-older-names/model.safetensors"))
    rename = lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    save_file({rename(k): v for k, v in tensors.items()}, at("bert-older-names/model.safetensors"), {"format": "pt"})
    older.bert.save_pretrained(at("bert-without-head"))

    causal = GPT2LMHeadModel(GPT2Config(**gpt2))
    causal.save_pretrained(at("gpt2"))
    causal.transformer.save_pretrained(at("gpt2-without-prefix"))
    causal.double().save_pretrained(at("gpt2-double"))
    untied = GPT2LMHeadModel(GPT2Config(**gpt2, tie_word_embeddings=False))
    untied.save_pretrained(at("gpt2-untied"))
    GPT2LMHeadModel(GPT2Config(**gpt2, add_cross_attention=True)).save_pretrained(at("gpt2-cross-attention"))
    torch.save(causal.state_dict(), at("gpt2-untied/pytorch_model.bin"))

    reference = {}
    for name in ("bert-pretraining-sharded", "bert-half", "bert-bfloat16", "bert-older-names"):
        reference[name] = logits_of(BertForMaskedLM.from_pretrained(at(name)), ids)
    for name in ("gpt2", "gpt2-without-prefix", "gpt2-double"):
        reference[name] = logits_of(GPT2LMHeadModel.from_pretrained(at(name)), ids)
    return reference


request = json.load(sys.stdin)
# Libraries that print must not spoil the answer.
with contextlib.redirect_stdout(sys.stderr):
    answer = {
        "made": make(request["make"], request["ids"]) if request.get("make") else {},
        "loaded": [load(each) for each in request["load"]],
    }
json.dump(answer, sys.stdout)
