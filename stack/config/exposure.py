"""What a gateway that anybody can reach demands of the rest of the configuration. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stack.config.access import CHAT_CONSUMER, Consumer
from stack.config.gateway import AdminListener, Exposure, Gateway


def problems(gateway: Gateway, consumers: Sequence[Consumer], *, sign_up: bool, observability: bool) -> Iterator[str]:
    """What does not go together, a line each."""
    if gateway.admin is AdminListener.LOCAL and not observability:
        yield "gateway.admin: it has nothing to show; set observability.enabled: true or admin: off"
    if gateway.exposure is not Exposure.PUBLIC:
        return
    if sign_up:
        yield "chat.signUp: with exposure: public anybody could ask for an account; set signUp: false"
    for which, consumer in enumerate(consumers):
        if consumer.name != CHAT_CONSUMER and not _bounded(consumer):
            yield (
                f"consumers[{which}]: with exposure: public each key needs an end or a limit of its own; "
                "set expires, requestsPerMinute, tokensPerMinute or tokensPerDay"
            )


def _bounded(consumer: Consumer) -> bool:
    return any((consumer.expires, consumer.requests_per_minute, consumer.tokens_per_minute, consumer.tokens_per_day))
