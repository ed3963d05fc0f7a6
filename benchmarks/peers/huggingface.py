"""Hugging Face transformers' own modules, with scaled-dot-product attention, run over a list of layers."""

import torch
import transformers
from transformers import AutoConfig, BertForMaskedLM, GPT2LMHeadModel


class LayerList(torch.nn.ModuleList):
    """The unique layers; going through it gives the executed ones: `order` says which, and a layer may come often."""

    order: list[int] | None = None

    def __iter__(self):
        layers = list(self._modules.values())
        return iter(layers if self.order is None else [layers[index] for index in self.order])


class HuggingFaceModel:
    version = f"transformers {transformers.__version__}, torch {torch.__version__}"

    def __init__(self, folder: str, *, precision: str, dropout: float, compiled: bool, device: str):
        config = AutoConfig.from_pretrained(folder)
        self.causal = config.model_type == "gpt2"
        kinds = (
            ("resid_pdrop", "embd_pdrop", "attn_pdrop")
            if self.causal
            else ("hidden_dropout_prob", "attention_probs_dropout_prob")
        )
        for kind in kinds:
            setattr(config, kind, dropout)
        config.use_cache = False
        cls = GPT2LMHeadModel if self.causal else BertForMaskedLM
        model = cls.from_pretrained(folder, config=config, attn_implementation="sdpa", dtype=torch.float32)
        if precision == "bf16-pure":
            model = model.to(torch.bfloat16)
        model = model.to(device)
        self.autocast = precision == "bf16"
        self.device_type = device.split(":")[0]
        owner, name = (model.transformer, "h") if self.causal else (model.bert.encoder, "layer")
        self.layers = LayerList(getattr(owner, name))
        setattr(owner, name, self.layers)
        self.model = model
        self.has_dropout = dropout > 0
        self.compiled = torch.compile(model) if compiled else None

    def parameters(self) -> list[tuple[str, torch.nn.Parameter]]:
        return list(self.model.named_parameters())

    def loss(self, batch, layers: list[int] | None, dropping: bool) -> torch.Tensor:
        self.layers.order = layers
        # With no dropout both modes compute the same, and one mode is compiled only once.
        training = dropping or not self.has_dropout
        if self.model.training != training:
            self.model.train(training)
        model = self.compiled if self.compiled is not None and training else self.model
        with torch.autocast(self.device_type, torch.bfloat16, enabled=self.autocast):
            return model(input_ids=batch.input_ids, labels=batch.labels).loss
