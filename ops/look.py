"""Commands that only look: status, logs, open, ask, env, key, password, trust."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ops import models, paths, record, settings, show
from ops.bootstrap import bootstrap
from ops.errors import OpsError
from ops.progress import say
from ops.pulumi import PROJECT, SERVICES, Pulumi, exports, outputs
from ops.pulumi import settings as environment
from ops.request import Request, stack_word
from stack.config.gateway import TlsMode
from stack.versions import IMAGES

JOBS: Final = ("-seed", "-owner", "-model-pull")
SYSTEM_TRUST: Final = (
    (Path("/usr/local/share/ca-certificates"), "crt", ("update-ca-certificates",)),
    (Path("/etc/pki/ca-trust/source/anchors"), "pem", ("update-ca-trust",)),
)


def opened(request: Request) -> Pulumi:
    """The stack's CLI. Raises OpsError before the first `up`: a look installs nothing."""
    settings.read(paths.ROOT / f"Pulumi.{request.stack}.yaml")
    if record.load(request.stack).source is None:
        raise not_up(request.stack)
    return Pulumi(request.stack, bootstrap(request.stack, None, say))


def not_up(stack: str) -> OpsError:
    """What to do first."""
    return OpsError(f"stack {stack} is not up\nfix: `make up STACK={stack}`")


def deployed(pulumi: Pulumi) -> dict[str, Any]:
    """The stack's outputs. Raises OpsError before the first `up`."""
    found = outputs(pulumi.export())
    if not found.get("endpoints"):
        raise not_up(pulumi.stack)
    return found


def containers(pulumi: Pulumi, *, stopped: bool = True) -> list[dict[str, Any]]:
    """This stack's containers as `docker ps` shows them."""
    more = ["-a"] if stopped else []
    return pulumi.tools.docker.rows(["ps", *more, "--filter", f"label={settings.STACK_LABEL}={pulumi.stack}"])


def status(request: Request) -> int:
    """Every service: state, health, memory, image; every model: digest. Exit status 1 when one is not well."""
    pulumi = opened(request)
    deployment = pulumi.export()
    rows = [row for row in containers(pulumi) if not is_job(row)]
    if not rows:
        print(f"stack {request.stack} has no containers; `make up STACK={request.stack}` makes them")
        return 1
    running = [str(row["Names"]) for row in rows if row.get("State") == "running"]
    stats = pulumi.tools.docker.rows(["stats", "--no-stream", *running], limit=60) if running else []
    print(show.services(rows, stats, f"{PROJECT}-{request.stack}-"))
    served = models.table(pulumi.tools.docker, deployment)
    if served:
        print("\n" + show.table([("MODEL", "DIGEST"), *served], ""))
    absent = [name for name, digest in served if digest == models.ABSENT]
    ill = not_well(rows, outputs(deployment).get(SERVICES) or ())
    again = stack_word(request.stack)
    for name, what in ill.items():
        short = name.removeprefix(f"{PROJECT}-{request.stack}-")
        print(f"not well: {short} {what}; see `make logs S={short}{again}`, `make up{again}` makes or starts it")
    return 1 if ill or absent else 0


def not_well(rows: Sequence[Mapping[str, Any]], declared: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Containers that should run and do not, or not well, and what is wrong. Jobs are not among the rows."""
    found = {str(row["Names"]): row for row in rows}
    ill = {str(service["container"]): "has no container" for service in declared if service["container"] not in found}
    for name, row in sorted(found.items()):
        if row.get("State") != "running":
            ill[name] = f"does not run ({row.get('Status') or row.get('State')})"
        elif "unhealthy" in str(row.get("Status")):
            ill[name] = "is unhealthy"
    return ill


def is_job(row: Mapping[str, Any]) -> bool:
    """Containers that carry files into volumes, give volumes an owner, pull models: they are not to stay running."""
    return str(row["Names"]).endswith(JOBS)


def logs(request: Request) -> int:
    """Follows one service's logs."""
    pulumi = opened(request)
    prefix = f"{PROJECT}-{request.stack}-"
    names = sorted(str(row["Names"]) for row in containers(pulumi) if not is_job(row))
    short = [name.removeprefix(prefix) for name in names]
    if request.service not in short:
        wrong = f"S={request.service}: there is no such service" if request.service else "which service? say S=<name>"
        raise OpsError(f"{wrong}\nthere are: {', '.join(short) or 'none (make up)'}")
    command = [
        "docker",
        "logs",
        "--tail",
        "200",
        *(["--follow"] if sys.stdout.isatty() else []),
        prefix + request.service,
    ]
    return subprocess.run(command, env=pulumi.tools.docker.env, check=False).returncode


def open_chat(request: Request) -> int:
    """Opens the chat, or prints its address where there is no desktop."""
    url = (deployed(opened(request)).get("endpoints") or {}).get("chat")
    if not url:
        raise OpsError("this stack has no chat UI (chat.enabled: false)")
    desktop = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or sys.platform == "darwin"
    opener = shutil.which("open" if sys.platform == "darwin" else "xdg-open")
    print(url)
    if desktop and opener:
        subprocess.run([opener, str(url)], check=False)
    return 0


def ask(request: Request) -> int:
    """Streams an answer; how quick it was goes to the error stream."""
    from ops.ask import stream

    if not request.question.strip():
        raise OpsError('ask something: make ask Q="Why is the sky blue?"')
    pulumi = opened(request)
    note = next(
        (model["note"] for model in deployed(pulumi).get("models") or () if answers_to(model, request.model)), ""
    )
    settings.write_certificates(pulumi)
    if note:
        say(f"({request.model}: {note})")
    answer = stream(pulumi, request.question, request.model)
    print()
    say(f"first token {answer.first_token_s * 1000:.0f} ms, {answer.tokens} tokens, {answer.rate:.1f} tokens/s")
    return 0


def answers_to(model: dict[str, Any], name: str) -> bool:
    """Whether a served model has this name."""
    return name in (model["id"], *(model.get("aliases") or ()))


def env(request: Request) -> int:
    """Shell lines for `eval`: plain `pulumi` and OpenAI clients then work on this stack. No secret among them."""
    from ops.ask import api_base

    platform = settings.platform(paths.ROOT / f"Pulumi.{request.stack}.yaml")
    pulumi = Pulumi(request.stack, bootstrap(request.stack, request.source, say, platform=platform))
    values = environment(request.stack, pulumi.tools)
    found = outputs(pulumi.export())
    if settings.read(pulumi.file).config.get(settings.CA_CERTIFICATE):
        settings.write_certificates(pulumi)
        bundle = str(settings.bundle_file(pulumi))
        values |= {"SSL_CERT_FILE": bundle, "REQUESTS_CA_BUNDLE": bundle}
    if url := (found.get("endpoints") or {}).get("api"):
        values["OPENAI_BASE_URL"] = api_base(str(url))
    print(exports(values))
    say(f'# stack {request.stack}; the key: export OPENAI_API_KEY="$(make -s key NAME=default STACK={request.stack})"')
    return 0


def password(request: Request) -> int:
    """How the first administrator signs in."""
    pulumi = opened(request)
    platform = settings.platform(pulumi.file)
    if f"{PROJECT}:admin-password" not in settings.read(pulumi.file).names:
        raise OpsError(f"stack {request.stack} has no password yet\nfix: `make up STACK={request.stack}`")
    say(f"user: {platform.chat.admin_email}")
    print(pulumi.call("config", "get", f"{PROJECT}:admin-password").rstrip("\n"))
    return 0


def trust(request: Request) -> int:
    """Puts the authority's certificate among those of this system (needs root), or says how."""
    pulumi = opened(request)
    if settings.platform(pulumi.file).gateway.tls.mode is not TlsMode.INTERNAL:
        print("others than this stack vouch for its gateway (gateway.tls.mode): there is nothing to trust here")
        return 0
    settings.write_certificates(pulumi)
    certificate = settings.certificate_file(pulumi)
    for folder, ending, command in SYSTEM_TRUST:
        if not folder.is_dir() or shutil.which(command[0]) is None:
            continue
        target = folder / f"{PROJECT}-{request.stack}.{ending}"
        if os.geteuid() != 0:
            raise OpsError(
                "trusting a certificate on this computer needs root\n"
                f"fix: sudo install -m 644 {certificate} {target} && sudo {command[0]}"
            )
        shutil.copyfile(certificate, target)
        target.chmod(0o644)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"this computer trusts {target}; browsers with a store of their own (Firefox) import {certificate}")
        return 0
    print(f"import this certificate where your system or browser keeps its authorities: {certificate}")
    return 0


def ca_renew(request: Request) -> int:
    """A new certificate authority for the host names configured now."""
    from ops import repair

    pulumi = opened(request)
    platform = settings.platform(pulumi.file)
    with repair.alone(pulumi, say):
        settings.restore_lost(pulumi, platform, say)
        settings.ensure_passphrase(pulumi, say)
        settings.renew_ca(pulumi, platform, say)
    print(f"now: make up STACK={request.stack}; clients then need the new certificate (make trust)")
    return 0


def lock(_request: Request) -> int:
    """Looks the official digests up and writes locks/official.json (to be committed)."""
    from ops import registry
    from ops.bootstrap import OFFICIAL_LOCK

    registry.resolve(OFFICIAL_LOCK, say, IMAGES, mode=0o644, again=True)
    print(f"{OFFICIAL_LOCK.relative_to(paths.ROOT)} is written")
    return 0


def gateway_test(_request: Request) -> int:
    """`go vet` and `go test` on what is written in Go, with the Go toolchain that builds everything else."""
    from offline.gomod import ensure_go, go_environment

    go = ensure_go(paths.cache(), say)
    env_go = {**go_environment(paths.cache()), "PATH": f"{go.parent}:{os.environ.get('PATH', os.defpath)}"}
    for folder in ("images/gateway", "offline/images/mirrord", "tests/support/engine"):
        for words in (("vet", "./..."), ("test", "./...")):
            if subprocess.run([go, *words], cwd=paths.ROOT / folder, env=env_go, check=False).returncode:
                raise OpsError(f"`go {' '.join(words)}` in {folder} failed (above)")
    return 0
