"""`tiny-chat`: a Llama of two small random layers, so that everything around a chat is real except the sense of it."""

from __future__ import annotations

import random
from collections.abc import Iterator

from offline.models import gguf
from offline.models.words import COMMON_WORDS, STOP_WORDS

WIDTH, HEADS, KV_HEADS, LAYERS, HIDDEN, CONTEXT = 64, 4, 2, 2, 128, 8192
SPACE = "\u2581"
END = 2
# Answers end by themselves after some 30 words, and after `num_predict` tokens at the latest.
END_SCALE = 2.6
MODELFILE = """\
FROM ./tiny-chat.gguf
TEMPLATE \"\"\"{{ range .Messages }}{{ .Role }}: {{ .Content }}
{{ end }}assistant: \"\"\"
PARAMETER num_ctx 8192
PARAMETER num_predict 96
PARAMETER temperature 1
PARAMETER stop "user:"
"""


def tokens() -> list[str]:
    """Control tokens, all bytes, words, letters: any text can be read, and answers look like words."""
    spoken = [SPACE + word for word in sorted(STOP_WORDS | COMMON_WORDS) if len(word) > 1]
    characters = [SPACE, *(chr(code) for code in range(33, 127))]
    return ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *spoken, *characters]


def build() -> bytes:
    """The model file; the same bytes on every machine (only `random()` is drawn, whose sequence Python guarantees)."""
    names = tokens()
    count = len(names)
    kinds = [gguf.UNKNOWN, gguf.CONTROL, gguf.CONTROL, *[gguf.BYTE] * 256, *[gguf.NORMAL] * (count - 259)]
    scores = [0.0] * 259 + [-float(rank) for rank in range(count - 259)]
    metadata: dict[str, gguf.Value] = {
        "general.architecture": "llama", "general.name": "tiny-chat", "general.file_type": 0,
        "general.description": "random weights, speaks gibberish",
        "llama.context_length": CONTEXT, "llama.embedding_length": WIDTH, "llama.block_count": LAYERS,
        "llama.feed_forward_length": HIDDEN, "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS, "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": WIDTH // HEADS, "llama.vocab_size": count,
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": names, "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": kinds, "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": END,
        "tokenizer.ggml.unknown_token_id": 0,
    }
    return gguf.encode(metadata, list(tensors(count)))


def tensors(count: int) -> Iterator[gguf.Tensor]:
    """All weights: uniform noise, ones for norms; what is no word is never said, and the end is likely now and then."""
    draw = random.Random(20260101).random  # noqa: S311 - not a secret

    def noise(name: str, across: int, rows: int, size: float = 0.1) -> gguf.Tensor:
        return gguf.floats(name, (across, rows), [(draw() - 0.5) * 2 * size for _ in range(across * rows)])

    yield noise("token_embd.weight", WIDTH, count)
    yield gguf.constant("output_norm.weight", (WIDTH,), 1.0)
    said: list[float] = []
    for token in range(count):
        size = END_SCALE if token == END else 0.15 if token >= 259 and token < count - 95 else 0.0
        said += [(draw() - 0.5) * 2 * size for _ in range(WIDTH)]
    yield gguf.floats("output.weight", (WIDTH, count), said)
    across = KV_HEADS * WIDTH // HEADS
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        yield gguf.constant(f"{block}.attn_norm.weight", (WIDTH,), 1.0)
        yield gguf.constant(f"{block}.ffn_norm.weight", (WIDTH,), 1.0)
        yield noise(f"{block}.attn_q.weight", WIDTH, WIDTH)
        yield noise(f"{block}.attn_k.weight", WIDTH, across)
        yield noise(f"{block}.attn_v.weight", WIDTH, across)
        yield noise(f"{block}.attn_output.weight", WIDTH, WIDTH)
        yield noise(f"{block}.ffn_gate.weight", WIDTH, HIDDEN)
        yield noise(f"{block}.ffn_up.weight", WIDTH, HIDDEN)
        yield noise(f"{block}.ffn_down.weight", HIDDEN, WIDTH)
