"""LangChain on OpenAI's API, as its documentation shows it."""

from __future__ import annotations

import asyncio

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr

from clients.given import KEY, URL, on_fakes

BASE = f"{URL}/v1"


def _chat(**more: object) -> ChatOpenAI:
    return ChatOpenAI(base_url=BASE, api_key=SecretStr(KEY), model="default", max_completion_tokens=16, **more)  # type: ignore[arg-type]


@tool
def _weather(city: str) -> str:
    """The weather in a city."""
    return f"12 °C in {city}"


class _Weather(BaseModel):
    """The weather in a city."""

    city: str


def invokes() -> None:
    answer = _chat().invoke([SystemMessage("Be brief."), HumanMessage("Say hello.")])
    assert isinstance(answer.content, str)
    assert answer.usage_metadata is not None


def streams() -> None:
    assert [piece for piece in _chat().stream("Say hello.") if piece.content]


def streams_with_its_token_counts() -> None:
    pieces = list(_chat(stream_usage=True).stream("Say hello."))
    assert [piece for piece in pieces if piece.usage_metadata]


def streams_asynchronously() -> None:
    async def main() -> None:
        assert [piece async for piece in _chat().astream("Say hello.")]

    asyncio.run(main())


def asks_in_a_batch() -> None:
    assert len(_chat().batch(["Say hello.", "Say goodbye."])) == 2


def answers_in_json() -> None:
    _chat().bind(response_format={"type": "json_object"}).invoke("Say hello.")


@on_fakes
def calls_tools() -> None:
    answer = _chat().bind_tools([_Weather]).invoke("What is the weather in Berlin?")
    assert answer.tool_calls  # type: ignore[attr-defined]


@on_fakes
def uses_the_responses_api() -> None:
    assert _chat(use_responses_api=True).invoke("Say hello.").content


@on_fakes
def embeds() -> None:
    # The engine is no OpenAI: texts, not their tokens, as LangChain says for that case.
    embeddings = OpenAIEmbeddings(
        base_url=BASE, api_key=SecretStr(KEY), model="embedding", check_embedding_ctx_length=False
    )
    assert len(embeddings.embed_documents(["one", "two"])) == 2
    assert embeddings.embed_query("one")
