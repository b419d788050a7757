"""The chat UI: Open WebUI, a consumer of the gateway like anyone else."""

from __future__ import annotations

from pulumi import ComponentResource, ResourceOptions

from stack.chat import open_webui
from stack.config.access import CHAT_CONSUMER
from stack.config.load import Environment
from stack.gateway.component import INNER
from stack.host import networks
from stack.host.component import Host
from stack.memory.component import Memory
from stack.parts import ServedModel
from stack.service import Service, ServiceArgs
from stack.shape import Endpoint, Metrics


class Chat(ComponentResource):
    """Places Open WebUI with its first administrator made and sign-up closed."""

    endpoint: Endpoint = open_webui.ENDPOINT

    def __init__(
        self, env: Environment, host: Host, *, models: tuple[ServedModel, ...], url: str, memory: Memory | None
    ) -> None:
        super().__init__("llm:chat:Chat", open_webui.NAME, opts=ResourceOptions(parent=host))
        key = env.secrets.keys[CHAT_CONSUMER]
        plain = open_webui.environment(
            env.platform, models=models, url=url, api=INNER, vectors=memory.endpoint if memory else None
        )
        secret = {
            "WEBUI_SECRET_KEY": env.secrets.webui_secret_key,
            "WEBUI_ADMIN_PASSWORD": env.secrets.admin_password,
            "OPENAI_API_KEYS": key,
            "RAG_OPENAI_API_KEY": key,
        }
        self.service = Service(
            open_webui.NAME,
            host,
            ServiceArgs(
                image=host.image("open-webui"),
                image_name=host.parts.image("open-webui"),
                networks=(networks.APP, networks.VECTORS) if memory else (networks.APP,),
                resources=env.platform.chat.resources,
                health=open_webui.HEALTH,
                metrics=Metrics(none_because="Open WebUI has no metrics endpoint; the gateway measures its traffic"),
                env={**plain, **secret},
                data={open_webui.DATA_FOLDER: "data"},
                start_timeout=300,
            ),
            needs=[memory.service.container] if memory else [],
            parent=self,
        )
        self.register_outputs({})
