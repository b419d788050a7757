"""A service of one's own behind the gateway: answers a question about a text, with the platform's model."""

from typing import Annotated

from fastapi import Body, FastAPI, Header, HTTPException, Response
from openai import APIStatusError, AsyncOpenAI
from prometheus_client import CONTENT_TYPE_LATEST, Counter, generate_latest

app = FastAPI(title="Questions about a text", docs_url=None, redoc_url=None)
model = AsyncOpenAI()  # OPENAI_BASE_URL and OPENAI_API_KEY come from the platform
answered = Counter("questions_answered_total", "Questions that got an answer", ["consumer"])


@app.post("/ask")
async def ask(
    text: Annotated[str, Body(max_length=20_000)],
    question: Annotated[str, Body(max_length=2_000)],
    x_consumer: Annotated[str, Header()] = "nobody",
) -> dict[str, str]:
    """`X-Consumer` is who asks: the gateway has checked the key, and lets nobody else set this header."""
    prompt = f"Answer from this text alone.\n\n{text}\n\nQuestion: {question}"
    try:
        done = await model.chat.completions.create(
            model="default", messages=[{"role": "user", "content": prompt}], max_tokens=300
        )
    except APIStatusError as error:
        raise HTTPException(error.status_code, "The model does not answer right now.") from error
    answered.labels(x_consumer).inc()
    return {"answer": done.choices[0].message.content or "", "asked_by": x_consumer}


@app.get("/health")
def health() -> dict[str, str]:
    """For the container's health check: this program answers."""
    return {"status": "ok"}


@app.get("/metrics")
def metrics() -> Response:
    """For Prometheus."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
