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
    """Places Ollama on a network without a way out: identical instances that share one volume of models.

    The first one alone may write there; it makes the folders that a fresh volume lacks and the others cannot.
    """

    def __init__(self, env: Environment, host: Host) -> None:
        super().__init__("llm:inference:Inference", "inference", opts=ResourceOptions(parent=host))
        engine = env.platform.engine
        self.image_name = engine_image(engine.accelerator)
        self.image = host.image(self.image_name)
        self.first = self._instance(env, host, 0)
        others = range(1, engine.instances)
        self.services = [self.first, *(self._instance(env, host, number, self.first) for number in others)]
        self.endpoints = tuple(Endpoint(host=service.name, port=ollama.PORT) for service in self.services)
        self.register_outputs({})

    def _instance(self, env: Environment, host: Host, number: int, first: Service | None = None) -> Service:
        engine = env.platform.engine
        return Service(
            engine.names[number],
            host,
            ServiceArgs(
                image=self.image,
                image_name=host.parts.image(self.image_name),
                networks=(networks.ENGINE,),
                resources=engine.resources,
                health=ollama.HEALTH,
                metrics=Metrics(none_because="Ollama has no metrics endpoint; the gateway measures its traffic"),
                env=ollama.environment(engine, number),
                data={} if first else {ollama.MODELS_FOLDER: "models"},
                reads={ollama.MODELS_FOLDER: first.volumes[ollama.MODELS_FOLDER]} if first else {},
                gpus=ollama.gpus(engine, number),
            ),
            needs=[one for one in (first.container, first.owner) if one] if first else [],
            parent=self,
        )


class ModelSet(ComponentResource):
    """The models in the engines' volume: pulled by a one-shot container, verified, unwanted ones of ours removed.

    One command without a `delete`: destroying the platform never erases models.
    """

    def __init__(self, env: Environment, host: Host, engine: Inference, models: tuple[ServedModel, ...]) -> None:
        super().__init__("llm:inference:ModelSet", "models", opts=ResourceOptions(parent=host))
        own = [model for model in models if model.own]
        spec = {
            "stack": env.stack,
            "puller": host.physical("model-pull"),
            "engines": [host.physical(service.name) for service in engine.services],
            "volume": host.physical(f"{ollama.NAME}-models"),
            "user": UID,
            "models": [
                {"name": m.name, "from": m.origin, "digest": m.digest, "insecure": m.insecure, "network": m.network}
                for m in own
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
            opts=ResourceOptions(parent=self, depends_on=[service.container for service in engine.services]),
        )
        self.register_outputs({})
        self.record = {
            "urn": self.pulled.urn,
            "engines": [service.container.name for service in engine.services],
            "volume": host.physical(f"{ollama.NAME}-models"),
            "models": [m.name if ":" in m.name.split("/")[-1] else f"{m.name}:latest" for m in own],
        }
