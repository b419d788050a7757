"""`make client APP=…`: how an app is told about this stack."""

from __future__ import annotations

from typing import Any

from ops import keys, settings
from ops.ask import api_base
from ops.clients import APPS, Context, render
from ops.errors import OpsError
from ops.look import deployed, opened
from ops.progress import say
from ops.request import Request, stack_word
from stack.config.gateway import Exposure, TlsMode
from stack.config.model import Platform, Role


def client(request: Request) -> int:
    """Prints one app's configuration; without APP, the apps there are."""
    if request.app not in APPS:
        width = max(map(len, APPS))
        known = "\n".join(f"  {name:<{width}}  {app.title}" for name, app in APPS.items())
        wrong = f"APP={request.app} is not known here" if request.app else "for which app? say APP=<name>"
        raise OpsError(f"{wrong}; there are:\n{known}\nanything else that speaks OpenAI's API: see APP=openai")
    pulumi = opened(request)
    platform = settings.platform(pulumi.file)
    keys.consumer(platform, request.name, pulumi)
    found = deployed(pulumi)
    settings.write_certificates(pulumi)
    print(render(APPS[request.app], context(platform, found, request, str(settings.bundle_file(pulumi)))))
    if request.app == "ollama" and "native" not in keys.consumer(platform, request.name, pulumi).scopes:
        say(f"consumer {request.name} lacks the scope `native`")
    return 0


def context(platform: Platform, found: dict[str, Any], request: Request, bundle: str) -> Context:
    """What a stack's outputs say to a client; `bundle` holds its authority and those of the system."""
    api = api_base(str(found["endpoints"]["api"]))
    served = found["models"]

    def named(role: Role, *wishes: str) -> str | None:
        names = [[*model["aliases"], model["id"]] for model in served if model["role"] == role]
        return next((wish for wish in wishes if any(wish in them for them in names)), names[0][0] if names else None)

    stack = stack_word(request.stack)
    own = request.name == keys.OWN
    chat = named(Role.CHAT, "default") or "default"
    return Context(
        api=api,
        native=f"{api.removesuffix('/v1')}/ollama",
        key=f"$(make -s key{stack})" if own else f"<the key that `make key NAME={request.name}` showed>",
        chat=chat,
        fast=named(Role.CHAT, "code", "fast", chat) or chat,
        embedding=named(Role.EMBEDDING, "embedding"),
        window=platform.engine.context_length,
        certificate=bundle if platform.gateway.tls.mode is TlsMode.INTERNAL else None,
        everywhere=platform.gateway.exposure is Exposure.PUBLIC,
    )
