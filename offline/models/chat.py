"""`tiny-chat`: a Llama of two small random layers, so that everything around a chat is real except the sense of it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from offline.models import gguf
from offline.models.words import COMMON_WORDS, STOP_WORDS

WIDTH, HEADS, KV_HEADS, LAYERS, HIDDEN, CONTEXT = 64, 4, 2, 2, 128, 8192
SPACE = "\u2581"
END = 2
SPOKEN_BIAS = 1.0
# One token in 70 ends a sentence, and with it the answer; `num_predict` ends what goes on without one.
LAST_WORDS = 10
MODELFILE = """\
FROM ./tiny-chat.gguf
TEMPLATE \"\"\"{{ range .Messages }}{{ .Role }}: {{ .Content }}
{{ end }}assistant: \"\"\"
PARAMETER num_ctx 8192
PARAMETER num_predict 96
PARAMETER temperature 1
PARAMETER top_k 0
PARAMETER top_p 1
PARAMETER stop "."
"""


def tokens() -> list[str]:
    """Control tokens, all bytes, words, letters: any text can be read, and answers look like words."""
    characters = [SPACE, *(chr(code) for code in range(33, 127))]
    return ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *spoken(), *characters]


def spoken() -> list[str]:
    """What the model says: words, and some with a full stop."""
    words = [SPACE + word for word in sorted(STOP_WORDS | COMMON_WORDS) if len(word) > 1]
    return words + [word + "." for word in words[:: len(words) // LAST_WORDS]]


def build() -> bytes:
    """The model file; the same bytes on every machine (only `random()` is drawn, whose sequence Python guarantees)."""
    names = tokens()
    count = len(names)
    kinds = [gguf.UNKNOWN, gguf.CONTROL, gguf.CONTROL, *[gguf.BYTE] * 256, *[gguf.NORMAL] * (count - 259)]
    scores = [0.0] * 259 + [-float(rank) for rank in range(count - 259)]
    metadata: dict[str, gguf.Value] = {
        "general.architecture": "llama",
        "general.name": "tiny-chat",
        "general.file_type": 0,
        "general.description": "random weights, speaks gibberish",
        "llama.context_length": CONTEXT,
        "llama.embedding_length": WIDTH,
        "llama.block_count": LAYERS,
        "llama.feed_forward_length": HIDDEN,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": WIDTH // HEADS,
        "llama.vocab_size": count,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": END,
        "tokenizer.ggml.unknown_token_id": 0,
    }
    return gguf.encode(metadata, list(tensors(count)))


def tensors(count: int) -> Iterator[gguf.Tensor]:
    """All weights: uniform noise, and ones for norms.

    Dimension 0 is the same for every token and left alone by the layers, so it works as a bias on what is said.
    """
    draw = random.Random(20260101).random  # noqa: S311 - not a secret
    said = range(259, 259 + len(spoken()))

    def noise(name: str, across: int, rows: int, size: float = 0.1, *, first: Sequence[float] = ()) -> gguf.Tensor:
        values = [(draw() - 0.5) * 2 * size for _ in range(across * rows)]
        values[: len(first) * across : across] = first
        return gguf.floats(name, (across, rows), values)

    def quiet(name: str, across: int) -> gguf.Tensor:
        """A projection back into the stream that adds nothing to dimension 0."""
        tensor = [0.0] * across + [(draw() - 0.5) * 0.2 for _ in range(across * (WIDTH - 1))]
        return gguf.floats(name, (across, WIDTH), tensor)

    yield noise("token_embd.weight", WIDTH, count, first=[1.5] * count)
    yield gguf.constant("output_norm.weight", (WIDTH,), 1.0)
    bias = [SPOKEN_BIAS if token in said else -SPOKEN_BIAS for token in range(count)]
    yield noise("output.weight", WIDTH, count, 0.3, first=bias)
    across = KV_HEADS * WIDTH // HEADS
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        yield gguf.constant(f"{block}.attn_norm.weight", (WIDTH,), 1.0)
        yield gguf.constant(f"{block}.ffn_norm.weight", (WIDTH,), 1.0)
        yield noise(f"{block}.attn_q.weight", WIDTH, WIDTH)
        yield noise(f"{block}.attn_k.weight", WIDTH, across)
        yield noise(f"{block}.attn_v.weight", WIDTH, across)
        yield quiet(f"{block}.attn_output.weight", WIDTH)
        yield noise(f"{block}.ffn_gate.weight", WIDTH, HIDDEN)
        yield noise(f"{block}.ffn_up.weight", WIDTH, HIDDEN)
        yield quiet(f"{block}.ffn_down.weight", HIDDEN)
