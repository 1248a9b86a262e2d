"""A tiny causal model of transformers, made on the spot: its words are letters, its weights those of a seed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

transformers: Any = import_module("transformers")  # its types know less than its documentation

SPECIAL = ["<pad>", "<s>", "</s>"]
TEMPLATE = (
    "{% if messages[0]['role'] == 'assistant' %}{{ raise_exception('a secret of the template') }}{% endif %}"
    "{% for each in messages %}<s>{{ each['role'] }}: {{ each['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
)


def tokenizer(*, template: bool) -> Any:
    """Bytes, so that any text has tokens, and a character may have several."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({word: place for place, word in enumerate([*SPECIAL, *alphabet])}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    told = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    ready = transformers.PreTrainedTokenizerFast(tokenizer_object=made, **told)
    if template:
        ready.chat_template = TEMPLATE
    return ready


def saved(folder: Path, *, template: bool = True, kind: str = "llama", room: int = 128, loud: float = 6.0) -> Path:
    """The folder of a model with two layers. loud: weights are so many times larger, for texts that differ."""
    torch.manual_seed(3)
    words = tokenizer(template=template)
    size: dict[str, Any] = {"vocab_size": len(words), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if kind == "llama":
        config = transformers.LlamaConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=room,
            **size,
        )
    else:
        config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=room, **size)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.mul_(loud)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
