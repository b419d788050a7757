"""The platform: reads the configuration, places the rooms, says where everything is."""

from __future__ import annotations

import pulumi

from stack import outputs, versions
from stack.chat.component import Chat
from stack.config.load import load
from stack.gateway.component import Gateway
from stack.host.component import Host
from stack.inference.component import Inference, ModelSet
from stack.memory.component import Memory
from stack.observability.component import Observability, pages
from stack.parts import served
from stack.services.component import Own

env = load()
models = served(env.platform.models, env.parts)

host = Host("host", prefix=env.prefix, stack=env.stack, parts=env.parts, adopt=env.adopt)
inference = Inference(env, host) if env.platform.uses_engine else None
model_set = ModelSet(env, host, inference, models) if inference else None
gateway = Gateway(
    env,
    host,
    models=models,
    engines=inference.endpoints if inference else (),
    chat=Chat.endpoint if env.platform.chat.enabled else None,
    pages=pages(env),
)
memory = Memory(env, host) if env.platform.uses_memory else None
chat = Chat(env, host, models=models, url=gateway.url, memory=memory) if env.platform.chat.enabled else None

own = [Own(env, host, settings) for settings in env.platform.services]

services = [*(inference.services if inference else ())]
services += [room.service for room in (gateway, memory, chat, *own) if room]
left_out = []
if env.platform.observability.enabled:
    observability = Observability(env, host, services=services, shown=gateway.pages)
    services += observability.services
    left_out = observability.left_out

pulumi.export(outputs.ENDPOINTS, gateway.endpoints)
pulumi.export(outputs.CA_CERTIFICATE, env.ca_certificate)
pulumi.export(outputs.SERVICES, [service.summary for service in services])
pulumi.export(outputs.CONFIG_FILES, [file for service in services for file in service.config_files])
pulumi.export(
    outputs.MODELS,
    [{"id": m.name, "aliases": list(m.aliases), "role": str(m.role), "note": m.note} for m in models],
)
pulumi.export(outputs.VERSIONS, {"pulumi": versions.PULUMI, **env.parts.images})
pulumi.export(outputs.HOSTS, [{"name": env.prefix, "source": env.parts.source}])
pulumi.export(outputs.LEFT_OUT, left_out)
pulumi.export(outputs.MODEL_SET, model_set.record if model_set else {})
pulumi.export(
    outputs.NEXT_STEPS,
    outputs.next_steps(env.stack, gateway.url, env.platform.chat.admin_email if env.platform.chat.enabled else None),
)
