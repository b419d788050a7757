"""The engine that serves the models, and the models in it."""

from __future__ import annotations

import json
from typing import Final

import pulumi_command as command
from pulumi import ComponentResource, ResourceOptions

from stack.config.load import Environment
from stack.host import networks
from stack.host.component import Host
from stack.inference import ollama
from stack.parts import ServedModel, engine_image
from stack.service import Service, ServiceArgs
from stack.shape import UID, Endpoint, Metrics

# Relative to the project, so that the state is the same wherever the checkout lies.
RECONCILE: Final = ".venv/bin/python -m stack.inference.reconcile"


class Inference(ComponentResource):
    """Places Ollama on a network without a way out."""

    endpoint: Endpoint = Endpoint(host=ollama.NAME, port=ollama.PORT)

    def __init__(self, env: Environment, host: Host) -> None:
        super().__init__("llm:inference:Inference", "inference", opts=ResourceOptions(parent=host))
        engine = env.platform.engine
        image = engine_image(engine.accelerator)
        self.image = host.image(image)
        self.service = Service(
            ollama.NAME,
            host,
            ServiceArgs(
                image=self.image,
                image_name=host.parts.image(image),
                networks=(networks.ENGINE,),
                resources=engine.resources,
                health=ollama.HEALTH,
                metrics=Metrics(none_because="Ollama has no metrics endpoint; the gateway measures its traffic"),
                env=ollama.environment(engine),
                data={ollama.MODELS_FOLDER: "models"},
                gpus=ollama.gpus(engine),
            ),
            parent=self,
        )
        self.register_outputs({})


class ModelSet(ComponentResource):
    """The models in the engine's volume: pulled by a one-shot container, verified, unwanted ones of ours removed.

    One command without a `delete`: destroying the platform never erases models.
    """

    def __init__(self, env: Environment, host: Host, engine: Inference, models: tuple[ServedModel, ...]) -> None:
        super().__init__("llm:inference:ModelSet", "models", opts=ResourceOptions(parent=host))
        spec = {
            "stack": env.stack,
            "puller": host.physical("model-pull"),
            "engine": host.physical(ollama.NAME),
            "volume": host.physical(f"{ollama.NAME}-models"),
            "user": UID,
            "models": [
                {"name": m.name, "from": m.origin, "digest": m.digest, "insecure": m.insecure, "network": m.network}
                for m in models
            ],
        }
        self.pulled = command.local.Command(
            "models-pull",
            create=RECONCILE,
            update=RECONCILE,
            environment={
                "MODEL_SET": json.dumps(spec),
                "MODEL_SET_IMAGE": engine.image,
                "MODEL_SET_NETWORK": host.network(networks.PULL),
            },
            # Progress is shown as it comes; only the summary on standard output goes into the state.
            logging=command.local.Logging.STDERR,
            add_previous_output_in_env=False,
            opts=ResourceOptions(parent=self, depends_on=[engine.service.container]),
        )
        self.register_outputs({})
        self.record = {
            "urn": self.pulled.urn,
            "engine": engine.service.container.name,
            "models": [m.name if ":" in m.name.split("/")[-1] else f"{m.name}:latest" for m in models],
        }
