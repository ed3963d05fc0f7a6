"""The training step that both peers share: forward, backward, clipping, fused AdamW."""

import json
from typing import Protocol

import torch


class Model(Protocol):
    """A model that the peer trains."""

    def parameters(self) -> list[tuple[str, torch.nn.Parameter]]: ...

    def loss(self, batch: "Batch", layers: list[int] | None, dropping: bool) -> torch.Tensor: ...


class Batch:
    """One micro-batch: ids and labels as Hugging Face takes them, and the counted positions as a head wants them."""

    def __init__(self, content: dict, causal: bool, device: str):
        self.input_ids = torch.tensor(content["input_ids"], device=device)
        self.labels = torch.tensor(content["labels"], device=device)
        # A causal model's position t predicts label t + 1.
        wanted = torch.full_like(self.labels, -100)
        if causal:
            wanted[:, :-1] = self.labels[:, 1:]
        else:
            wanted = self.labels
        flat = wanted.reshape(-1)
        self.counted = torch.nonzero(flat != -100).squeeze(1)
        self.targets = flat[self.counted]


class Peer:
    def __init__(self, model, request: dict, device: str):
        self.model = model
        self.device = device
        with open(request["batches"], encoding="utf-8") as file:
            self.batches = [Batch(content, model.causal, device) for content in json.load(file)["batches"]]
        # The unique layer of each executed layer, a list per step as Apollo's release passes it; None runs every layer.
        self.layer_lists = request.get("layerLists")
        self.clip = request.get("clip", 1.0)
        self.steps = 0
        named = model.parameters()
        self.trained = [parameter for _, parameter in named]
        decay = [parameter for name, parameter in named if has_decay(name)]
        rest = [parameter for name, parameter in named if not has_decay(name)]
        self.optimizer = torch.optim.AdamW(
            [{"params": decay, "weight_decay": request.get("weightDecay", 0.01)}, {"params": rest, "weight_decay": 0.0}],
            lr=request.get("learningRate", 1e-3),
            betas=(0.9, 0.999),
            eps=1e-8,
            fused=True,
        )

    def describe(self) -> dict:
        return {"version": self.model.version, "parameters": sum(p.numel() for p in self.trained)}

    def loss(self) -> float:
        with torch.no_grad():
            return self.model.loss(self.batches[0], self.layers_of(0), dropping=False).item()

    def step(self, dropping: bool, layers: list[int] | None = None) -> float:
        batch = self.batches[self.steps % len(self.batches)]
        layers = self.layers_of(self.steps) if layers is None else layers
        self.steps += 1
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.model.loss(batch, layers, dropping)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, self.clip, foreach=True)
        self.optimizer.step()
        return loss.item()

    def layers_of(self, step: int) -> list[int] | None:
        return None if self.layer_lists is None else self.layer_lists[step % len(self.layer_lists)]


def has_decay(name: str) -> bool:
    """Weight decay on every tensor but biases and layer norms, whatever they are called."""
    lower = name.lower()
    return not (lower.endswith("bias") or "layernorm" in lower or ".ln_" in lower or lower.startswith("ln_"))
