"""A tiny model of llama.cpp, made on the spot: its words are bytes and letters, its weights those of a seed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

WIDE, HEADS, LAYERS = 32, 2, 2
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
WORDS += ["\u2581".encode(), *(each.encode() for each in LETTERS), *(f"{each}e".encode() for each in LETTERS)]
TEMPLATE = (
    "{% if messages[0]['role'] == 'assistant' %}{{ raise_exception('a secret of the template') }}{% endif %}"
    "{% for each in messages %}<s>{{ each['role'] }}: {{ each['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
)


def saved(file: Path, *, template: bool = True, room: int = 512, loud: float = 0.12) -> Path:
    """loud: how large the weights are, for texts that differ."""
    gguf: Any = import_module("gguf")  # only the long tests have it
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(room)
    writer.add_embedding_length(WIDE)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(2 * WIDE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDE // HEADS)
    _vocabulary(gguf, writer)
    if template:
        writer.add_chat_template(TEMPLATE)
    for name, shape in _shapes().items():
        writer.add_tensor(name, _weights(name, shape, loud))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _vocabulary(gguf: Any, writer: Any) -> None:
    kind = gguf.TokenType
    kinds = [kind.UNKNOWN, kind.CONTROL, kind.CONTROL, *[kind.BYTE] * 256]
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(WORDS)
    writer.add_token_scores([0.0] * len(WORDS))
    writer.add_token_types([*kinds, *[kind.NORMAL] * (len(WORDS) - len(kinds))])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)


def _shapes() -> dict[str, tuple[int, ...]]:
    ends: dict[str, tuple[int, ...]] = {"token_embd": (len(WORDS), WIDE), "output": (len(WORDS), WIDE)}
    shapes = {**ends, "output_norm": (WIDE,)}
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        shapes |= {f"{block}attn_{each}": (WIDE, WIDE) for each in ("q", "k", "v", "output")}
        shapes |= {f"{block}ffn_{each}": (2 * WIDE, WIDE) for each in ("gate", "up")}
        shapes |= {f"{block}ffn_down": (WIDE, 2 * WIDE), f"{block}attn_norm": (WIDE,), f"{block}ffn_norm": (WIDE,)}
    return {f"{name}.weight": shape for name, shape in shapes.items()}


def _weights(name: str, shape: tuple[int, ...], loud: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    drawn = np.random.default_rng(list(name.encode())).standard_normal(shape) * loud
    if name == "output.weight":
        drawn[: len(WORDS) - 2 * len(LETTERS)] *= 0.2  # letters are likelier than bytes: most texts are UTF-8
    return drawn.astype(np.float32)
