"""OpenAI's own library, as its documentation shows it."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
from openai import AsyncOpenAI, OpenAI

from clients.given import KEY, KEYS, OWN, URL, on_fakes, raises, wrong_key

MESSAGES: list[Any] = [{"role": "user", "content": "Say hello."}]
SHORT = 16
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
client = OpenAI(base_url=f"{URL}/v1", api_key=KEY)


def lists_models() -> None:
    names = [model.id for model in client.models.list()]
    assert "default" in names


def shows_one_model() -> None:
    assert client.models.retrieve("default").id == "default"


def chats() -> None:
    answer = client.chat.completions.create(model="default", messages=MESSAGES, max_tokens=SHORT)
    assert answer.choices[0].message.content is not None
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def chats_with_a_system_message_and_settings() -> None:
    messages: list[Any] = [{"role": "system", "content": "Be brief. Ünïcode: 你好 🎉"}, *MESSAGES]
    client.chat.completions.create(
        model="default", messages=messages, max_completion_tokens=SHORT, temperature=0.2, top_p=0.9, seed=1,
        stop=["\n\n"], presence_penalty=0.1, frequency_penalty=0.1, user="contract",
    )  # fmt: skip


def chats_with_an_image_beside_the_text() -> None:
    pixel = (
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNg"
        "+M9QDwADgQF/e5IkGQAAAABJRU5ErkJggg=="
    )
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": pixel}}]
    messages: list[Any] = [{"role": "user", "content": content}]
    try:
        client.chat.completions.create(model="default", messages=messages, max_tokens=SHORT)
    except (openai.BadRequestError, openai.InternalServerError):
        assert not OWN  # a model that does not see is the deployed platform's own affair


def streams() -> None:
    pieces = list(client.chat.completions.create(model="default", messages=MESSAGES, max_tokens=SHORT, stream=True))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert pieces[-1].choices
    assert pieces[-1].choices[0].finish_reason in ("stop", "length")
    assert all(piece.usage is None for piece in pieces)  # not asked for, so not told


def streams_with_its_token_counts() -> None:
    pieces = list(
        client.chat.completions.create(
            model="default", messages=MESSAGES, max_tokens=SHORT, stream=True, stream_options={"include_usage": True}
        )
    )
    assert pieces[-1].choices == []
    assert pieces[-1].usage is not None


def stops_in_the_middle_of_a_stream() -> None:
    stream = client.chat.completions.create(model="default", messages=MESSAGES, max_tokens=SHORT, stream=True)
    next(iter(stream))
    stream.close()


def completes_text() -> None:
    answer = client.completions.create(model="default", prompt="Once upon", max_tokens=SHORT)
    assert answer.choices[0].text is not None


def streams_text() -> None:
    pieces = list(client.completions.create(model="default", prompt="Once upon", max_tokens=SHORT, stream=True))
    assert [piece for piece in pieces if piece.choices]


@on_fakes
def sends_every_setting_that_there_is() -> None:
    for settings in (
        {"n": 2}, {"logprobs": True, "top_logprobs": 2}, {"logit_bias": {"50256": -100}}, {"stop": "END"},
        {"stop": ["a", "b"]}, {"reasoning_effort": "low"}, {"parallel_tool_calls": False, "tools": [TOOL]},
        {"tool_choice": "required", "tools": [TOOL]}, {"tool_choice": "none", "tools": [TOOL]},
        {"tool_choice": {"type": "function", "function": {"name": "weather"}}, "tools": [TOOL]},
        {"metadata": {"a": "b"}}, {"store": False}, {"service_tier": "auto"}, {"seed": 7, "temperature": 0},
        {"extra_body": {"top_k": 40, "min_p": 0.05, "options": {"num_ctx": 2048}}}, {"timeout": 30.0},
        {"extra_headers": {"X-Request-Id": "of-the-client", "OpenAI-Beta": "assistants=v2"}},
        {"extra_query": {"api-version": "2024-10-21"}}, {"response_format": {"type": "text"}}, {"modalities": ["text"]},
    ):  # fmt: skip
        more: Any = settings
        client.chat.completions.create(model="default", messages=MESSAGES, max_tokens=SHORT, **more)


@on_fakes
def sends_every_form_of_a_conversation() -> None:
    conversations: list[Any] = [
        [{"role": "developer", "content": "Be brief."}, *MESSAGES],
        [*MESSAGES, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Again."}],
        [{"role": "user", "content": [{"type": "text", "text": "Say hello."}], "name": "ann"}],
        [{"role": "user", "content": "https://example.org/a?b=c&d=../e #1 <b>%2e%2e;</b> \\ \u0000"}],
        [{"role": "user", "content": "x" * 5_000}],
        [{"role": "user", "content": ""}],
    ]
    for messages in conversations:
        client.chat.completions.create(model="default", messages=messages, max_tokens=SHORT)


@on_fakes
def uses_every_name_of_the_model() -> None:
    for name in ("default", "fast", "qwen3:0.6b"):
        client.chat.completions.create(model=name, messages=MESSAGES, max_tokens=SHORT)
        assert client.models.retrieve(name).id == name


@on_fakes
def is_given_a_model_by_its_address() -> None:
    own = OpenAI(base_url=f"{URL}/m/default/v1", api_key=KEY)
    assert [model.id for model in own.models.list()]
    own.chat.completions.create(model="whatever-the-client-says", messages=MESSAGES, max_tokens=SHORT)


@on_fakes
def embeds_in_every_form() -> None:
    forms: list[Any] = ["one", ["one", "two"], ["x" * 5000], ["ünïcode 你好"]]
    for text in forms:
        client.embeddings.create(model="all-minilm", input=text, encoding_format="float", user="contract")


@on_fakes
def responds_in_every_form() -> None:
    forms: list[Any] = [
        {"input": [{"role": "user", "content": "Say hello."}]}, {"input": "Say hello.", "instructions": "Be brief."},
        {"input": "Say hello.", "temperature": 0.1, "top_p": 0.9, "store": False},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Say hello."}]}]},
    ]  # fmt: skip
    for form in forms:
        client.responses.create(model="default", max_output_tokens=SHORT, **form)


@on_fakes
def fills_in_the_middle() -> None:
    client.completions.create(model="default", prompt="def add(a, b):\n", suffix="\n    return c\n", max_tokens=SHORT)


@on_fakes
def calls_tools() -> None:
    answer = client.chat.completions.create(model="default", messages=MESSAGES, tools=[TOOL], tool_choice="auto")
    calls: Any = answer.choices[0].message.tool_calls
    assert calls
    assert calls[0].function.name == "weather"
    said: Any = answer.choices[0].message.model_dump(exclude_none=True)
    result: Any = {"role": "tool", "tool_call_id": calls[0].id, "content": "12 °C"}
    client.chat.completions.create(model="default", messages=[*MESSAGES, said, result], tools=[TOOL])


@on_fakes
def streams_calls_of_tools() -> None:
    pieces = list(client.chat.completions.create(model="default", messages=MESSAGES, tools=[TOOL], stream=True))
    calls = [call for piece in pieces for choice in piece.choices for call in choice.delta.tool_calls or []]
    assert calls
    assert calls[0].function is not None
    assert calls[0].function.name == "weather"


def answers_in_json() -> None:
    client.chat.completions.create(
        model="default", messages=MESSAGES, max_tokens=SHORT, response_format={"type": "json_object"}
    )


def answers_in_a_schema() -> None:
    schema: Any = {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": {"type": "object", "properties": {"a": {"type": "string"}}}},
    }
    client.chat.completions.create(model="default", messages=MESSAGES, max_tokens=SHORT, response_format=schema)


def responds() -> None:
    answer = client.responses.create(model="default", input="Say hello.", max_output_tokens=SHORT)
    assert answer.id
    assert answer.output is not None


def streams_responses() -> None:
    kinds = [
        event.type
        for event in client.responses.create(model="default", input="Say hello.", max_output_tokens=SHORT, stream=True)
    ]
    assert kinds[0] == "response.created"
    assert kinds[-1] in ("response.completed", "response.incomplete")
    assert "response.output_text.delta" in kinds or not OWN


def embeds_one_text() -> None:
    if "embedding" in [model.id for model in client.models.list()]:
        vector = client.embeddings.create(model="embedding", input="a text", encoding_format="float").data[0].embedding
        assert all(isinstance(number, float) for number in vector)
        assert vector


def embeds_several_texts_in_the_librarys_own_form() -> None:
    if "embedding" in [model.id for model in client.models.list()]:  # asks for base64 by itself
        assert len(client.embeddings.create(model="embedding", input=["one", "two"]).data) == 2


def reads_headers_of_an_answer() -> None:
    answer = client.chat.completions.with_raw_response.create(model="default", messages=MESSAGES, max_tokens=SHORT)
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.parse().choices


def keeps_one_connection() -> None:
    for _ in range(5):
        client.models.list()


def _asynchronous() -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY)


def chats_asynchronously() -> None:
    async def main() -> None:
        async with _asynchronous() as own:
            answer = await own.chat.completions.create(model="default", messages=MESSAGES, max_tokens=SHORT)
            assert answer.choices

    asyncio.run(main())


def streams_asynchronously() -> None:
    async def main() -> None:
        async with _asynchronous() as own:
            stream = await own.chat.completions.create(
                model="default", messages=MESSAGES, max_tokens=SHORT, stream=True
            )
            assert [piece async for piece in stream]

    asyncio.run(main())


def lists_models_asynchronously() -> None:
    async def main() -> None:
        async with _asynchronous() as own:
            assert "default" in [model.id async for model in own.models.list()]

    asyncio.run(main())


@on_fakes
def asks_for_several_answers_at_once() -> None:
    async def main() -> None:
        async with _asynchronous() as own:
            questions = [
                own.chat.completions.create(model="default", messages=MESSAGES, max_tokens=SHORT) for _ in range(8)
            ]
            assert len(await asyncio.gather(*questions)) == 8

    asyncio.run(main())


@wrong_key
def a_wrong_key_is_an_authentication_error() -> None:
    with raises(openai.AuthenticationError) as caught:
        OpenAI(base_url=f"{URL}/v1", api_key="sk-wrong").models.list()
    assert caught[0].status_code == 401
    assert caught[0].code == "invalid_api_key"


def an_unknown_model_is_not_found() -> None:
    with raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="contract-probe/does-not-exist", messages=MESSAGES)
    assert caught[0].code == "model_not_found"
    assert caught[0].param == "model"


def an_unknown_address_is_not_found() -> None:
    with raises(openai.NotFoundError) as caught:
        client.files.list()
    assert caught[0].code == "not_found"


def a_bad_request_is_one() -> None:
    with raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="", messages=MESSAGES)
    assert caught[0].param == "model"


@on_fakes
def a_forbidden_model_is_a_permission_error() -> None:
    with raises(openai.PermissionDeniedError) as caught:
        OpenAI(base_url=f"{URL}/v1", api_key=KEYS["restricted"]).chat.completions.create(
            model="default", messages=MESSAGES
        )
    assert caught[0].code == "model_not_allowed"


@on_fakes
def too_many_requests_are_a_rate_limit_error() -> None:
    own = OpenAI(base_url=f"{URL}/v1", api_key=KEYS["hasty"], max_retries=0)
    with raises(openai.RateLimitError) as caught:
        for _ in range(3):
            own.models.list()
    assert int(caught[0].response.headers["retry-after"]) >= 1
    assert caught[0].code == "rate_limit_exceeded"
