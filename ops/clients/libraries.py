"""Libraries: a short program each, which runs as it stands. Sources: the libraries' own references. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ops.clients.shape import App, Context, Step, environment


def _openai(context: Context) -> Sequence[Step]:
    embed = (
        f'\nvector = client.embeddings.create(model="{context.embedding}", input="a text").data[0].embedding\n'
        "print(len(vector))"
        if context.embedding
        else ""
    )
    return [
        environment(context, "OPENAI_API_KEY", "OPENAI_BASE_URL"),
        Step(
            "ask.py (pip install openai)",
            f"""from openai import OpenAI

client = OpenAI()
stream = client.chat.completions.create(
    model="{context.chat}",
    messages=[{{"role": "user", "content": "Why is the sky blue?"}}],
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print(){embed}""",
        ),
    ]


def _openai_js(context: Context) -> Sequence[Step]:
    shell = environment(context, "OPENAI_API_KEY", "OPENAI_BASE_URL")
    return [
        Step(shell.where, shell.text.replace("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")),
        Step(
            "ask.mjs (npm install openai)",
            f"""import OpenAI from "openai";

const client = new OpenAI();
const stream = await client.chat.completions.create({{
  model: "{context.chat}",
  messages: [{{ role: "user", content: "Why is the sky blue?" }}],
  stream: true,
}});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");""",
        ),
    ]


def _langchain(context: Context) -> Sequence[Step]:
    imports, embed = "ChatOpenAI", ""
    if context.embedding:
        imports = "ChatOpenAI, OpenAIEmbeddings"
        # Else it would send token ids of another model's tokenizer, which engines do not read.
        embed = (
            f'\nembeddings = OpenAIEmbeddings(model="{context.embedding}", check_embedding_ctx_length=False)\n'
            'print(len(embeddings.embed_query("a text")))'
        )
    return [
        environment(context, "OPENAI_API_KEY", "OPENAI_BASE_URL"),
        Step(
            "ask.py (pip install langchain-openai)",
            f"""from langchain_openai import {imports}

model = ChatOpenAI(model="{context.chat}", stream_usage=True)
for chunk in model.stream("Why is the sky blue?"):
    print(chunk.text, end="", flush=True)
print(){embed}""",
        ),
    ]


def _llamaindex(context: Context) -> Sequence[Step]:
    packages, imports, embed = "llama-index-llms-openai-like", "", ""
    if context.embedding:
        packages += " llama-index-embeddings-openai-like"
        imports = "from llama_index.embeddings.openai_like import OpenAILikeEmbedding\n"
        embed = f"""
embeddings = OpenAILikeEmbedding(
    model_name="{context.embedding}", api_base=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"]
)
print(len(embeddings.get_text_embedding("a text")))"""
    return [
        environment(context, "OPENAI_API_KEY", "OPENAI_BASE_URL"),
        Step(
            f"ask.py (pip install {packages})",
            f"""import os

{imports}from llama_index.llms.openai_like import OpenAILike

model = OpenAILike(
    model="{context.chat}",
    api_base=os.environ["OPENAI_BASE_URL"],
    api_key=os.environ["OPENAI_API_KEY"],
    is_chat_model=True,
    context_window={context.window},
)
for chunk in model.stream_complete("Why is the sky blue?"):
    print(chunk.delta, end="", flush=True)
print(){embed}""",
        ),
    ]


def _ollama(context: Context) -> Sequence[Step]:
    return [
        environment(context, "OPENAI_API_KEY"),
        Step(
            "ask.py (pip install ollama); the key needs the scope `native`",
            f"""import os

from ollama import Client

client = Client(host="{context.native}", headers={{"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}})
question = [{{"role": "user", "content": "Why is the sky blue?"}}]
for part in client.chat(model="{context.chat}", messages=question, stream=True):
    print(part.message.content, end="", flush=True)
print()""",
        ),
    ]


APPS: Final = (
    App(name="openai", title="OpenAI's library for Python", steps=_openai),
    App(name="openai-js", title="OpenAI's library for JavaScript", steps=_openai_js),
    App(name="langchain", title="LangChain", steps=_langchain),
    App(name="llamaindex", title="LlamaIndex", steps=_llamaindex),
    App(name="ollama", title="Ollama's library for Python", steps=_ollama),
)
