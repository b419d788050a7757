"""Ollama's own Python library on the native routes."""

from __future__ import annotations

import asyncio

import ollama

from clients.given import KEY, KEYS, URL, on_fakes, raises, wrong_key

HOST = f"{URL}/ollama"
MESSAGES = [{"role": "user", "content": "Say hello."}]
SHORT = {"num_predict": 16}
client = ollama.Client(host=HOST, headers={"Authorization": f"Bearer {KEY}"})


@on_fakes
def chats() -> None:
    assert client.chat("default", MESSAGES, options=SHORT).message.content


@on_fakes
def streams() -> None:
    pieces = list(client.chat("default", MESSAGES, options=SHORT, stream=True))
    assert pieces[-1].done
    assert "".join(piece.message.content or "" for piece in pieces)


@on_fakes
def generates() -> None:
    assert client.generate("default", "Once upon", options=SHORT).done


@on_fakes
def streams_generated_text() -> None:
    assert list(client.generate("default", "Once upon", options=SHORT, stream=True))[-1].done


@on_fakes
def fills_in_the_middle() -> None:
    assert client.generate("default", "def add(a, b):\n", suffix="\n    return c\n", options=SHORT).done


@on_fakes
def answers_in_a_schema() -> None:
    client.chat("default", MESSAGES, options=SHORT, format={"type": "object", "properties": {}})


@on_fakes
def offers_tools() -> None:
    def weather(city: str) -> str:
        """The weather in a city.

        Args:
            city: where
        """
        return city

    client.chat("default", MESSAGES, options=SHORT, tools=[weather])


@on_fakes
def embeds() -> None:
    assert len(client.embed("embedding", ["one", "two"]).embeddings) == 2
    assert client.embeddings("embedding", "one").embedding


@on_fakes
def lists() -> None:
    assert "default" in [model.model for model in client.list().models]


@on_fakes
def lists_what_runs() -> None:
    assert client.ps().models is not None


@on_fakes
def shows() -> None:
    own = ollama.Client(host=HOST, headers={"Authorization": f"Bearer {KEYS['shower']}"})
    assert own.show("default").details is not None


@on_fakes
def chats_asynchronously() -> None:
    async def main() -> None:
        own = ollama.AsyncClient(host=HOST, headers={"Authorization": f"Bearer {KEY}"})
        assert (await own.chat("default", MESSAGES, options=SHORT)).message.content
        stream = await own.chat("default", MESSAGES, options=SHORT, stream=True)
        assert [piece async for piece in stream][-1].done

    asyncio.run(main())


@on_fakes
def managing_models_is_refused() -> None:
    for act in (
        lambda: client.pull("contract-probe/does-not-exist"),
        lambda: client.delete("contract-probe/does-not-exist"),
        lambda: client.copy("contract-probe/does-not-exist", "contract-probe/does-not-exist"),
        lambda: client.create("contract-probe/does-not-exist", from_="contract-probe/does-not-exist"),
    ):
        with raises(ollama.ResponseError) as caught:
            act()
        assert caught[0].status_code == 404


@on_fakes
def an_unknown_model_is_an_error_that_says_so() -> None:
    with raises(ollama.ResponseError) as caught:
        client.chat("contract-probe/does-not-exist", MESSAGES)
    assert caught[0].status_code == 404
    assert "does-not-exist" in str(caught[0])


@on_fakes
@wrong_key
def a_wrong_key_is_an_error() -> None:
    with raises(ollama.ResponseError) as caught:
        ollama.Client(host=HOST, headers={"Authorization": "Bearer sk-wrong"}).list()
    assert caught[0].status_code == 401
