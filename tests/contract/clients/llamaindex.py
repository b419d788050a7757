"""LlamaIndex on an API like OpenAI's, as its documentation shows it."""

from __future__ import annotations

import asyncio

from llama_index.core.base.llms.types import ChatMessage
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

from clients.given import KEY, URL, on_fakes

BASE = f"{URL}/v1"


def _llm() -> OpenAILike:
    return OpenAILike(
        api_base=BASE, api_key=KEY, model="default", is_chat_model=True, is_function_calling_model=True,
        context_window=4096, max_tokens=16,
    )  # fmt: skip


def chats() -> None:
    assert _llm().chat([ChatMessage(role="user", content="Say hello.")]).message.content


def streams() -> None:
    assert [piece.delta for piece in _llm().stream_chat([ChatMessage(role="user", content="Say hello.")])]


def completes() -> None:
    assert _llm().complete("Once upon").text is not None


def completes_text_models() -> None:
    own = OpenAILike(api_base=BASE, api_key=KEY, model="default", is_chat_model=False, max_tokens=16)
    assert own.complete("Once upon").text is not None


def streams_asynchronously() -> None:
    async def main() -> None:
        stream = await _llm().astream_chat([ChatMessage(role="user", content="Say hello.")])
        assert [piece async for piece in stream]

    asyncio.run(main())


@on_fakes
def embeds() -> None:
    embeddings = OpenAILikeEmbedding(api_base=BASE, api_key=KEY, model_name="embedding", embed_batch_size=2)
    assert embeddings.get_text_embedding("a text")
    assert len(embeddings.get_text_embedding_batch(["one", "two", "three"])) == 3
