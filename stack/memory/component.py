"""The vector database behind document questions: ChromaDB, reachable from the chat UI alone."""

from __future__ import annotations

from typing import Final

from pulumi import ComponentResource, ResourceOptions

from stack.config.load import Environment
from stack.host import networks
from stack.host.component import Host
from stack.service import Service, ServiceArgs
from stack.shape import Endpoint, Health, Metrics

NAME: Final = "chroma"
PORT: Final = 8000
DATA_FOLDER: Final = "/data"  # the image's own configuration keeps its data there

# Chroma 1.x has no authentication and its image no curl: the shell asks, over loopback.
_ASK: Final = (
    f"exec 3<>/dev/tcp/127.0.0.1/{PORT}; printf 'GET /api/v2/heartbeat HTTP/1.0\\r\\n\\r\\n' >&3; grep -q ' 200 ' <&3"
)
HEALTH: Final = Health(test=["CMD", "/bin/bash", "-c", _ASK], interval=3)


class Memory(ComponentResource):
    """Places ChromaDB on a network that only the chat UI shares."""

    endpoint: Endpoint = Endpoint(host=NAME, port=PORT)

    def __init__(self, env: Environment, host: Host) -> None:
        super().__init__("llm:memory:Memory", "memory", opts=ResourceOptions(parent=host))
        self.service = Service(
            NAME,
            host,
            ServiceArgs(
                image=host.image("chroma"),
                image_name=host.parts.image("chroma"),
                networks=(networks.VECTORS,),
                resources=env.platform.memory.resources,
                health=HEALTH,
                metrics=Metrics(none_because="Chroma's only telemetry is OpenTelemetry push"),
                env={"ANONYMIZED_TELEMETRY": "False"},
                data={DATA_FOLDER: "data"},
            ),
            parent=self,
        )
        self.register_outputs({})
