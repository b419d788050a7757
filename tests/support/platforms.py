"""Any platform that the configuration allows, as far as the gateway is concerned, for property tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as st

from stack.config.access import Credentials
from stack.config.explain import parse_platform
from stack.config.model import Platform
from stack.gateway import consumers, routes, upstreams
from stack.parts import served
from stack.shape import Endpoint
from tests.support.samples import SAMPLES

PARTS: Final = SAMPLES["dev"].parts
_LABEL: Final = st.from_regex(r"\A[a-z]([a-z0-9-]{0,8}[a-z0-9])?\Z")
_HOST: Final = st.builds(lambda *labels: ".".join(labels), _LABEL, _LABEL, st.sampled_from(["org", "net", "com"]))
_NAME: Final = st.from_regex(r"\A[a-z][a-z0-9-]{0,12}[a-z0-9]\Z")
_MODEL: Final = st.from_regex(
    r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,8}(/[A-Za-z0-9][A-Za-z0-9._-]{0,8})?(:[a-z0-9]{1,6})?\Z"
).filter(lambda name: ".." not in name and not name.endswith(":latest"))
_DURATION: Final = st.builds(
    lambda n, unit: f"{n}{unit}", st.integers(1, 500), st.sampled_from(["ms", "s", "m", "h", "d"])
)
_RATE: Final = st.fixed_dictionaries(
    {"events": st.integers(1, 100_000), "per": _DURATION}, optional={"burst": st.integers(0, 100_000)}
)
_PACE: Final = st.fixed_dictionaries({"events": st.integers(1, 100_000), "per": st.sampled_from(["10ms", "1s", "1m"])})
_PORTS: Final = st.lists(st.integers(1, 65535), min_size=3, max_size=3, unique=True)
# The ends of what a consumer may be given; maxBody within every gateway.maxBody above.
_BOUNDS: Final = st.fixed_dictionaries(
    {},
    optional={
        "scopes": st.just(["chat", "native", "show", "admin"]),
        "burst": st.sampled_from([0, 100_000]),
        "concurrentStreams": st.sampled_from([1, 100_000]),
        "tokensPerMinute": st.sampled_from([1, 1_000_000_000]),
        "tokensPerDay": st.sampled_from([1, 1_000_000_000_000]),
        "maxOutputTokens": st.sampled_from([1, 1_048_576]),
        "maxBody": st.just("1MiB"),
        "maxDuration": st.sampled_from(["1ms", "1500ms", "7d", "168h"]),
    },
)


@st.composite
def _gateway(draw: st.DrawFn, *, observed: bool) -> dict[str, Any]:
    https, http, admin = draw(_PORTS)
    hosts = draw(st.lists(_HOST, min_size=1, max_size=6, unique=True))
    cut = draw(st.tuples(st.integers(1, len(hosts)), st.integers(1, len(hosts))).map(sorted))
    tls: dict[str, Any] = {"mode": draw(st.sampled_from(["internal", "acme", "certificate"]))}
    if tls["mode"] == "acme":
        http = 80 if https != 80 else http
        https = https if http == 80 else 443
        tls |= draw(
            st.fixed_dictionaries(
                {}, optional={"email": st.just("me@example.org"), "directory": st.just("https://ca.example.org/dir")}
            )
        )
    public = tls["mode"] != "internal" and draw(st.booleans())
    return {
        "exposure": "public" if public else "private",
        "address": draw(st.sampled_from(["127.0.0.1", "::1", "192.168.1.10", "fd00::1"] + ["0.0.0.0", "::"] * public)),
        "httpsPort": https,
        "httpPort": http,
        "adminPort": next(port for port in (admin, 9443, 9444, 9445) if port not in {https, http}),
        "hostnames": hosts[: cut[0]],
        "chatHostnames": hosts[cut[0] : cut[1]],
        "apiHostnames": hosts[cut[1] :],
        "tls": tls,
        "trustedProxies": draw(
            st.lists(st.sampled_from(["192.168.1.10", "172.16.0.0/12", "::1", "fd00::/8"]), max_size=2, unique=True)
        ),
        "cors": {"origins": draw(st.lists(_HOST.map("https://{}".format), max_size=2, unique=True))},
        "limits": draw(
            st.fixed_dictionaries({}, optional={"api": _PACE, **dict.fromkeys(("chat", "signIn", "failures"), _RATE)})
        ),
        "admin": draw(st.sampled_from(["off", "local"])) if observed else "off",
        "maxBody": draw(st.sampled_from(["1MiB", "32MiB", "64MiB"])),
    }


@st.composite
def platforms(draw: st.DrawFn) -> Platform:
    """A platform; what does not fit together is mended rather than thrown away."""
    names = draw(
        st.lists(_MODEL, min_size=1, max_size=6, unique_by=str.lower).filter(lambda found: "default" not in found)
    )
    models: list[dict[str, Any]] = [{"name": names[0], "aliases": ["default", *names[1:3]]}]
    elsewhere = draw(st.booleans())
    for name in names[3:]:
        models.append(
            {"name": name}
            | draw(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "fallback": st.just("default"),
                        "requestsPerMinute": st.integers(1, 1000),
                        "concurrentRequests": st.integers(1, 100),
                        **({"engine": st.just("big-box")} if elsewhere else {}),
                    },
                )
            )
        )
    observed = draw(st.booleans())
    chat = draw(st.booleans())
    people = [
        "default",
        "chat",
        *draw(
            st.lists(_NAME, max_size=3, unique=True).map(lambda all_: [n for n in all_ if n not in {"default", "chat"}])
        ),
    ]
    box = {"name": "big-box", "urls": ["https://box.example.org"], "key": draw(st.booleans())}
    tree = {
        "gateway": draw(_gateway(observed=observed)),
        "models": models,
        "upstreams": [box] if elsewhere else [],
        "consumers": [
            {"name": name, "requestsPerMinute": draw(st.integers(1, 1000) | st.just(100_000))} | draw(_BOUNDS)
            for name in people
        ],
        "chat": {"enabled": chat},
        "memory": {"enabled": False},
        "observability": {"enabled": observed},
    }
    return parse_platform(tree, source=json.dumps(tree, indent=1))


@dataclass(frozen=True)
class Rendered:
    """What the laws over routes look at, of a platform that no sample file holds."""

    platform: Platform

    @property
    def sample(self) -> Rendered:
        """Stands for the sample: the laws ask it for its platform."""
        return self

    def consumers(self) -> str:
        """The consumers file, in which everybody has a key."""
        platform = self.platform
        keys = {consumer.name: Credentials(key=f"key-of-{consumer.name}") for consumer in platform.consumers}
        models = served(platform.models, PARTS)
        return consumers.render(platform.consumers, keys, models, default=platform.gateway.limits.api)

    def file(self, seed: str) -> str:
        """The gateway's configuration."""
        assert seed == "gateway-config"
        platform = self.platform
        behind = routes.Upstreams(
            engines=upstreams.engines(platform, [Endpoint(host="ollama", port=11434)] if platform.uses_engine else []),
            elsewhere=platform.upstreams,
            services=platform.services,
            chat="chat:8080" if platform.chat.enabled else None,
            chat_keys=platform.chat.features.api_keys,
            grafana="grafana:3000" if platform.observability.enabled else None,
            prometheus="prometheus:9090" if platform.observability.enabled else None,
        )
        return routes.render(platform.gateway, served(platform.models, PARTS), behind).to_json()
