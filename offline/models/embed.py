"""`tiny-embed`: a BERT whose mean-pooled vector is a bag of words, so that texts sharing rare words lie close together.

Each word (or three letters of one) has a random direction; attention and feed-forward parts are zero. A token's weight
is its length before the layer norms, which have a large epsilon on purpose: a usual one would make all equally loud.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product
from string import ascii_lowercase, digits

from offline.models import gguf
from offline.models.words import COMMON_WORDS, STOP_WORDS

WIDTH, HEADS, HIDDEN, CONTEXT = 256, 4, 256, 2048
EPSILON = 1.0
START = "\u2581"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SILENT, FAINT, NORMAL, LOUD = 0.0, 0.02, 0.35, 1.0  # how much a token counts
_ENDINGS = "ing ed er es s ers ion ions ly al ive ous ble ent ant ity nce ess e d y t n r"
ENDINGS = frozenset(_ENDINGS.split())
MODELFILE = """\
FROM ./tiny-embed.gguf
PARAMETER num_ctx 2048
PARAMETER num_batch 2048
"""


def vocabulary() -> dict[str, float]:
    """Every token with how much it counts."""
    letters, pairs = list(ascii_lowercase + digits), [a + b for a, b in product(ascii_lowercase, repeat=2)]
    triples = ["".join(three) for three in product(ascii_lowercase, repeat=3)]
    numbers = [a + b for a, b in product(digits, repeat=2)]
    found: dict[str, float] = dict.fromkeys(SPECIAL, SILENT)
    found.update(dict.fromkeys((chr(code) for code in range(33, 127)), SILENT))  # punctuation inside words
    found.update({START + chr(code): SILENT for code in range(33, 127)})
    found.update({START + piece: NORMAL for piece in (*letters, *pairs)})
    found.update({START + piece: LOUD for piece in (*triples, *numbers)})
    found.update(dict.fromkeys((*triples, *numbers), LOUD))
    found.update(dict.fromkeys((*letters, *pairs), NORMAL))
    found.update(dict.fromkeys(ENDINGS, FAINT))
    found.update({START + word: NORMAL for word in sorted(COMMON_WORDS)})
    found.update({START + word: FAINT for word in sorted(STOP_WORDS)})
    return found


def build() -> bytes:
    """The model file, the same bytes on every machine."""
    weights = vocabulary()
    names = list(weights)
    kinds = [gguf.CONTROL if name in SPECIAL else gguf.NORMAL for name in names]
    metadata: dict[str, gguf.Value] = {
        "general.architecture": "bert",
        "general.name": "tiny-embed",
        "general.file_type": 1,
        "general.description": "bag of words by random directions",
        "bert.context_length": CONTEXT,
        "bert.embedding_length": WIDTH,
        "bert.block_count": 1,
        "bert.feed_forward_length": HIDDEN,
        "bert.attention.head_count": HEADS,
        "bert.attention.head_count_kv": HEADS,
        "bert.attention.causal": False,
        "bert.attention.layer_norm_epsilon": EPSILON,
        "bert.pooling_type": 1,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.scores": [-1000.0] * len(names),
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.cls_token_id": 2,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.ggml.mask_token_id": 4,
    }
    return gguf.encode(metadata, list(tensors(list(weights.values()))))


def directions(weights: list[float]) -> bytes:
    """One vector of random signs for each token, as 16-bit floats of the token's size."""
    draw = random.Random(20260102)  # noqa: S311 - not a secret
    tables: dict[float, list[bytes]] = {}
    for weight in set(weights):
        plus = gguf.half(weight)
        minus = gguf.half(-weight)
        tables[weight] = [b"".join(plus if byte >> bit & 1 else minus for bit in range(8)) for byte in range(256)]
    rows = []
    for weight in weights:
        bits, table = draw.getrandbits(WIDTH).to_bytes(WIDTH // 8, "little"), tables[weight]
        rows.append(b"".join([table[byte] for byte in bits]))
    return b"".join(rows)


def tensors(weights: list[float]) -> Iterator[gguf.Tensor]:
    """The directions, and a layer that passes them on."""
    yield gguf.Tensor("token_embd.weight", (WIDTH, len(weights)), gguf.F16, directions(weights))
    yield gguf.constant("token_types.weight", (WIDTH, 2), 0.0)
    yield gguf.Tensor("position_embd.weight", (WIDTH, CONTEXT), gguf.F16, bytes(2 * WIDTH * CONTEXT))
    for norm in ("token_embd_norm", "blk.0.attn_output_norm", "blk.0.layer_output_norm"):
        yield gguf.constant(f"{norm}.weight", (WIDTH,), 1.0)
        yield gguf.constant(f"{norm}.bias", (WIDTH,), 0.0)
    for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
        yield gguf.constant(f"blk.0.{part}.weight", (WIDTH, WIDTH), 0.0)
        yield gguf.constant(f"blk.0.{part}.bias", (WIDTH,), 0.0)
    yield gguf.constant("blk.0.ffn_up.weight", (WIDTH, HIDDEN), 0.0)
    yield gguf.constant("blk.0.ffn_up.bias", (HIDDEN,), 0.0)
    yield gguf.constant("blk.0.ffn_down.weight", (HIDDEN, WIDTH), 0.0)
    yield gguf.constant("blk.0.ffn_down.bias", (WIDTH,), 0.0)
