"""`make load`: how much a deployment bears. On a stack of ours it brings its own key, which is gone when it ends."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ops import health, look, paths, repair, settings
from ops.errors import OpsError
from ops.load import consumer, facts, stops, tax
from ops.progress import say
from ops.pulumi import PROJECT, Pulumi
from ops.request import Request
from stack.config.access import LOAD_CONSUMER
from stack.config.model import Platform, Role

RUN: Final = ("-m", "loadtests.run")
PREFIX: Final = "LOAD_"
# What a run has no use for: what opens the stack's secrets, and words that were not typed for it.
NOT_PASSED: Final = ("PULUMI_", PREFIX)
PROMETHEUS: Final = "http://127.0.0.1:9090"
MIX: Final = "MIX"  # how many of a mixed load are of which profile
# Who signs in to the chat of another deployment, and which model makes vectors there: exported, as a password must be.
SIGNS_IN: Final = (f"{PREFIX}CHAT_EMAIL", f"{PREFIX}CHAT_PASSWORD")
EMBEDDING_MODEL: Final = f"{PREFIX}EMBEDDING_MODEL"


def load(request: Request) -> int:
    """Runs a load test on a stack, or with URL=… on any deployment; its exit status. Raises OpsError."""
    words = given(os.environ)
    direct = tax.wanted(os.environ)
    if request.url:
        return elsewhere(request, words, os.environ, direct)
    if request.ca:
        raise OpsError(f"CA={request.ca} would do nothing here: it is for URL=…; a stack's own certificate is known")
    pulumi = look.opened(request)
    platform = settings.platform(pulumi.file)
    consumer.refuse_name(platform, pulumi.file.name)
    with stops.noted() as asked, repair.alone(pulumi, say), tempfile.TemporaryDirectory(prefix="load-") as folder:
        deployment = pulumi.export()
        found = look.deployed(pulumi)
        url = str((found.get("endpoints") or {}).get("api") or "")
        if reason := health.out_of_reach(pulumi, url):
            raise OpsError(
                f"the gateway cannot be loaded from here: {reason}\n"
                "fix: run this on a machine that reaches it, with URL=https://… and a key of its own (KEY)"
            )
        settings.write_certificates(pulumi)
        signs_in = people(pulumi, platform, words)
        env = {
            **plain(os.environ),
            **words,
            **signs_in,
            "DOCKER_HOST": pulumi.tools.docker.host,
            "OPENAI_BASE_URL": url,
            "SSL_CERT_FILE": str(settings.certificate_file(pulumi)),
            f"{PREFIX}FACTS": str(facts.write(Path(folder), facts.facts(pulumi, platform, deployment))),
            f"{PREFIX}SERVER": json.dumps(
                server(pulumi.stack, prometheus=platform.observability.enabled, counts=not signs_in)
            ),
            **models(platform, words),
        }
        what = tax.planned(
            direct, pulumi.tools.docker, pulumi.stack, platform, found["models"], url=url, ca=env["SSL_CERT_FILE"],
            model=request.model,
        )  # fmt: skip
        with consumer.present(pulumi, platform, deployment, asked, say) as key:
            return run(asked, env | {"OPENAI_API_KEY": key}, Path(folder), what)


def run(asked: stops.Stops, env: Mapping[str, str], folder: Path, what: Mapping[str, Any] | None) -> int:
    """The gateway's tax first, where it is wanted: on a machine that has nothing else to do. Then the run."""
    told: dict[str, str] = {}
    if what is not None:
        command, told = tax.command(what, folder)
        if code := asked.run(command, env, paths.ROOT):
            return code
    return asked.run([sys.executable, *RUN], {**env, **told}, paths.ROOT)


def given(environ: Mapping[str, str]) -> dict[str, str]:
    """The words of a run as it takes them. Raises OpsError for what it would refuse, before anything is deployed."""
    from loadtests.runs import beforehand, words

    found = {f"{PREFIX}{word}": environ[word] for word in (*words.WORDS, MIX) if environ.get(word)}
    try:
        beforehand.check({**found, "BASELINES": environ.get("BASELINES", "")})
    except ValueError as wrong:
        raise OpsError(str(wrong)) from None
    return found


def plain(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment that a run gets beside what is meant for it."""
    return {name: value for name, value in environ.items() if not name.startswith(NOT_PASSED) and name != "KEY"}


def server(stack: str, *, prometheus: bool, counts: bool = True) -> dict[str, Any]:
    """How a run asks the server's side: commands that print the gateway's figures and what Prometheus has kept.

    `counts`: whether the gateway counts all of the run's tokens for its consumer. People at the chat's page come with
    the chat's own key, as everybody there does.
    """
    container = f"{PROJECT}-{stack}"
    keeps = ["docker", "exec", f"{container}-prometheus", "promtool", "query", "range", "-o", "json"]
    return {
        "consumer": LOAD_CONSUMER,
        "metrics": ["docker", "exec", f"{container}-gateway", *consumer.METRICS] if counts else [],
        "prometheus": [*keeps, PROMETHEUS] if prometheus else [],
    }


def models(platform: Platform, words: Mapping[str, str]) -> dict[str, str]:
    """The embedding model by its name; chats have `default` in every stack.

    Raises OpsError for a model that nobody serves, or that does not do what the profile asks of it.
    """
    from loadtests.workload import mix

    roles = {name: model.role for model in platform.models for name in (model.name, *model.aliases)}
    asked, profile = words.get(f"{PREFIX}MODEL", ""), words.get(f"{PREFIX}PROFILE", "chat")
    kinds = scenarios(words)
    vectors = kinds <= mix.EMBEDDINGS
    if (name := asked or "default") not in roles and (asked or not vectors):
        raise OpsError(f"MODEL={name}: no model of this stack has that name; there are {', '.join(sorted(roles))}")
    embeds = [name for name, role in roles.items() if role is Role.EMBEDDING]
    if kinds & mix.EMBEDDING and not embeds:
        raise OpsError(
            f"PROFILE={profile} asks for vectors, and no model of this stack makes any\n"
            "fix: add one with role: embedding to its models, then `make up`"
        )
    if asked and vectors is not (asked in embeds):
        what, others = ("vectors", embeds) if vectors else ("answers", [one for one in roles if one not in embeds])
        raise OpsError(
            f"MODEL={asked}: PROFILE={profile} asks for {what}, which {asked} does not make; there are "
            f"{', '.join(sorted(others))}"
        )
    return {EMBEDDING_MODEL: asked if asked and vectors else embeds[0]} if embeds else {}


def scenarios(words: Mapping[str, str]) -> set[str]:
    """What the sessions of these words are."""
    from loadtests.workload import mix, profiles

    return mix.kinds(profiles.chosen(words.get(f"{PREFIX}PROFILE", "chat")), words)


def sign_in(words: Mapping[str, str]) -> bool:
    """Whether people of these words sign in to the chat."""
    from loadtests.workload import mix

    return bool(scenarios(words) & mix.SIGNED_IN)


def people(pulumi: Pulumi, platform: Platform, words: Mapping[str, str]) -> dict[str, str]:
    """How people of the chat sign in, where the profile has some. Raises OpsError where there is no chat."""
    if not sign_in(words):
        return {}
    if not platform.chat.enabled:
        raise OpsError("this stack has no chat UI (chat.enabled: false) that people of this profile could sign in to")
    password = pulumi.call("config", "get", f"{PROJECT}:admin-password").rstrip("\n")
    return dict(zip(SIGNS_IN, (platform.chat.admin_email, password), strict=True))


def elsewhere(request: Request, words: Mapping[str, str], environ: Mapping[str, str], direct: str | None = None) -> int:
    """A run on a deployment that is not ours to change. Raises OpsError with what is missing."""
    key, url = environ.get("KEY", ""), refuse_clear(request.url)
    if not key:
        raise OpsError(
            "URL=… needs a key of that deployment: `read -rs KEY && export KEY` (typed after make, others could see it)"
        )
    if request.ca and not Path(request.ca).is_file():
        raise OpsError(
            f"CA={request.ca}: there is no such file; it is the certificate that the deployment is trusted by"
        )
    ca = str(Path(request.ca).resolve()) if request.ca else ""
    trust = {"SSL_CERT_FILE": ca} if ca else {}
    exported = visitors(words, environ)
    what = None if direct is None else tax.beside(direct, url=url, ca=ca, model=request.model)
    say(f"load on {url}, a deployment that is not this machine's to change: its limits hold, its counters are not read")
    with stops.noted() as asked, tempfile.TemporaryDirectory(prefix="load-") as folder:
        env = {**plain(environ), **words, **exported, **trust, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": key}
        return run(asked, env, Path(folder), what)


def visitors(words: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """What only the shell knows of another deployment: who signs in to its chat, and its embedding model.

    Raises OpsError where people of the profile sign in and nobody says as whom.
    """
    found = {EMBEDDING_MODEL: environ[EMBEDDING_MODEL]} if environ.get(EMBEDDING_MODEL) else {}
    if not sign_in(words):
        return found
    if missing := [name for name in SIGNS_IN if not environ.get(name)]:
        email, password = SIGNS_IN
        raise OpsError(
            f"PROFILE={words.get(f'{PREFIX}PROFILE', 'chat')}: its people sign in to the chat of that deployment, and "
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set\n"
            f"fix: `export {email}=…; read -rs {password} && export {password}` (typed after make, others could see it)"
        )
    return found | {name: environ[name] for name in SIGNS_IN}


def refuse_clear(url: str) -> str:
    """The address without a slash at its end. Raises OpsError where a key would travel in clear."""
    if not re.fullmatch(r"https?://[^/?#\s@]+(/v1)?/?", url):
        raise OpsError(f"URL={url}: write the deployment's own address, for example URL=https://llm.example.org")
    parts = urlsplit(url)
    if parts.scheme == "http" and not _loopback(parts.hostname or ""):
        raise OpsError(f"URL={url}: the key would travel in clear; https:// (http:// on this machine only)")
    return url.rstrip("/")


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
