"""The life of a stack: up, preview, down, destroy, adopt. Pulumi makes and removes; this prepares and reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ops import certificate, health, look, models, repair, settings, show, volumes
from ops.bootstrap import bootstrap
from ops.errors import OpsError
from ops.load import consumer
from ops.progress import say
from ops.pulumi import PROJECT, Pulumi, outputs
from ops.request import Request, stack_word
from stack.config.model import Platform

QUIET: Final = ("--suppress-permalink=true", "--suppress-outputs")


@dataclass(frozen=True)
class Session:
    """A stack that is ready for Pulumi: configuration checked, tools there, settings complete."""

    request: Request
    platform: Platform
    pulumi: Pulumi

    @property
    def again(self) -> str:
        """How to run the same command again."""
        return command(self.request.command, self.request.stack)


def command(name: str, stack: str) -> str:
    """A command for a stack, as it is typed."""
    return f"make {name}{stack_word(stack)}"


def prepare(request: Request, *, images: bool = True) -> Session:
    """Configuration first: a mistake there is told before anything is installed or started."""
    from ops import paths

    platform = settings.platform(paths.ROOT / f"Pulumi.{request.stack}.yaml")
    pulumi = Pulumi(request.stack, bootstrap(request.stack, request.source, say, platform=platform if images else None))
    return Session(request, platform, pulumi)


def preflight(session: Session) -> None:
    """The host's checks, unless HOST=none. Raises OpsError when one forbids to start."""
    if not session.request.host_checks:
        return
    from ops.preflight import run_preflight

    tools = session.pulumi.tools
    found = run_preflight(session.platform, tools.docker, PROJECT, session.request.stack, say, source=tools.source)
    if any(finding.refuses for finding in found):
        raise OpsError("this host cannot run the stack as it is configured (see above); nothing was started")


def up(request: Request) -> int:
    """From whatever is there to a running platform. Running it again changes nothing."""
    session = prepare(request)
    pulumi = session.pulumi
    with repair.alone(pulumi, say):
        deployment = settled(session)
        preflight(session)
        deployment = repair.drop_pending(pulumi, deployment, say)
        repair.leftovers(pulumi, deployment, say)
        replace = repair.replacements(pulumi, deployment, say) + models.replacements(pulumi, deployment, say)
        deploy(session, *replace)
        if consumer.forget(pulumi.stack):
            say("consumers: removed what a load test that was killed had left")
    return report(session)


def deploy(session: Session, *more: str) -> None:
    """`pulumi up`. Refresh first: a container stopped or removed by hand is seen, and made again."""
    try:
        code = session.pulumi.run("up", "--yes", "--skip-preview", "--refresh", *QUIET, *more)
    except KeyboardInterrupt:
        say(f"\nstopped; nothing is lost: `{session.again}` goes on from here")
        raise
    if code:
        raise OpsError(
            f"`pulumi up` ended with an error (above)\nfix: put right what it names, then run `{session.again}` again: "
            "it goes on from what is there"
        )


def report(session: Session) -> int:
    """Writes the certificates and the table. Raises OpsError when what was deployed does not answer."""
    pulumi = session.pulumi
    settings.keep_copy(pulumi)
    settings.write_certificates(pulumi)
    found = outputs(pulumi.export())
    health.started(lambda: look.containers(pulumi), say)
    if trouble := health.trouble(pulumi, session.platform, found.get("endpoints") or {}, say):
        raise OpsError(f"stack {pulumi.stack} is deployed, but does not answer: {trouble}")
    admin = session.platform.chat.admin_email if session.platform.chat.enabled else None
    print(show.summary(pulumi.stack, found, admin, pulumi.tools.source))
    return 0


def settled(session: Session) -> dict[str, Any]:
    """The stack's deployment, its settings complete. Refuses lost state before anything is generated."""
    pulumi = session.pulumi
    if pulumi.keeps_files and not pulumi.checkpoint.exists():
        refuse_orphans(pulumi, {})
    settings.ensure(pulumi, session.platform, say)
    certificate.check(pulumi, session.platform)
    deployment = pulumi.export()
    refuse_orphans(pulumi, deployment)
    return deployment


def refuse_orphans(pulumi: Pulumi, deployment: dict[str, Any]) -> None:
    """Data that the state does not know: creating would take it over silently, so it must be asked for."""
    found = volumes.with_data(volumes.there(pulumi))
    if found and not volumes.known(deployment) & set(found):
        where = str(pulumi.checkpoint) if pulumi.keeps_files else pulumi.env.get("PULUMI_BACKEND_URL", "Pulumi Cloud")
        raise OpsError(
            f"the state of stack {pulumi.stack} is gone ({where}), its data is there: {', '.join(found)}\n"
            f"fix: put the state back, or `make adopt STACK={pulumi.stack}` to go on with that data"
        )


def adopt(request: Request) -> int:
    """State lost, volumes there: removes what holds no data, then lets the program import the volumes."""
    session = prepare(request)
    pulumi = session.pulumi
    found = volumes.with_data(volumes.there(pulumi))
    if not found:
        raise OpsError(
            f"stack {pulumi.stack} has no volumes on this host to take over\nfix: `make up STACK={pulumi.stack}`"
        )
    with repair.alone(pulumi, say):
        deployment = pulumi.export()
        if volumes.known(deployment) & set(found):
            raise OpsError(f"the state of stack {pulumi.stack} knows its volumes\nfix: `make up STACK={pulumi.stack}`")
        renew = request.confirm == request.stack
        try:
            settings.ensure(pulumi, session.platform, say, renew=renew)
        except OpsError as trouble:
            if "the passphrase of stack" not in str(trouble):
                raise
            raise OpsError(
                f"{trouble}\n"
                f"with nothing but the volumes left: `make adopt STACK={pulumi.stack} CONFIRM={pulumi.stack}` makes "
                "new keys and passwords (accounts inside the chat keep theirs)"
            ) from trouble
        preflight(session)
        repair.leftovers(pulumi, {}, say)
        say(f"adopting {len(found)} volumes: {', '.join(found)}")
        pulumi.env["PRIVATE_LLM_ADOPT"] = ",".join(found)
        deploy(session)
    return report(session)


def preview(request: Request) -> int:
    """What `up` would change."""
    session = prepare(request)
    with repair.alone(session.pulumi, say):
        settled(session)
    preflight(session)
    code = session.pulumi.run("preview", "--diff", *QUIET)
    if code:
        raise OpsError("`pulumi preview` ended with an error (above)")
    return 0


def down(request: Request) -> int:
    """Stops the containers; state, data and networks stay."""
    session = prepare(request, images=False)
    docker = session.pulumi.tools.docker
    with repair.alone(session.pulumi, say):
        names = docker.run(["ps", "-q", "--filter", f"label={settings.STACK_LABEL}={request.stack}"]).split()
        if names:
            say(f"stopping {len(names)} containers...")
            docker.run(["stop", *names], limit=180)
    print(f"stack {request.stack} is stopped; `{command('up', request.stack)}` starts it again, its data is kept")
    return 0


def destroy(request: Request) -> int:
    """Removes containers and networks; volumes only with DATA=delete and the stack's name as a second word."""
    session = prepare(request, images=False)
    pulumi = session.pulumi
    if request.delete_data:
        confirm(request)
    with repair.alone(pulumi, say):
        deployment = pulumi.export()
        if deployment.get("resources") or deployment.get("pending_operations"):
            settings.ensure_passphrase(pulumi, say)
            repair.drop_pending(pulumi, deployment, say)
            remove(session)
        repair.leftovers(pulumi, {}, say)
        consumer.forget(pulumi.stack)
        there = volumes.there(pulumi)
        kept = volumes.with_data(there)
        # Volumes of rendered files go in any case: a lost state leaves them behind.
        gone = there if request.delete_data else volumes.with_files(there)
        if gone:
            pulumi.tools.docker.run(["volume", "rm", *gone], limit=120)
    if not kept:
        print(f"stack {request.stack} is removed; it has no data")
    elif request.delete_data:
        print(f"stack {request.stack} and its data are gone: {', '.join(kept)}")
    else:
        delete = f"{command('destroy', request.stack)} DATA=delete"
        print(f"stack {request.stack} is removed; its data is kept: {', '.join(kept)}")
        print(f"`{command('up', request.stack)}` uses it again; `{delete}` deletes it")
    return 0


def remove(session: Session) -> None:
    """`pulumi destroy`, with or without the protected volumes."""
    request, pulumi = session.request, session.pulumi
    if request.delete_data:
        pulumi.call("state", "unprotect", "--all", "--yes")
    protected: tuple[str, ...] = () if request.delete_data else ("--exclude-protected",)
    try:
        code = pulumi.run("destroy", "--yes", "--skip-preview", *QUIET, *protected)
    except KeyboardInterrupt:
        say(f"\nstopped; `{session.again}` goes on from here")
        raise
    if code:
        raise OpsError(
            f"`pulumi destroy` ended with an error (above)\nfix: put right what it names, then `{session.again}` again"
        )


def confirm(request: Request) -> None:
    """Asks for the stack's name before data is deleted. Raises OpsError."""
    import sys

    given = request.confirm
    if not given and sys.stdin.isatty():
        given = input(
            f"this deletes every chat, document, model and metric of stack {request.stack}.\nType its name to go on: "
        )
    if given.strip() != request.stack:
        raise OpsError(
            f"nothing was deleted: DATA=delete needs the stack's name as a second word\n"
            f"fix: `make destroy STACK={request.stack} DATA=delete CONFIRM={request.stack}`"
        )


def doctor(request: Request) -> int:
    """Host checks, drift, and one real streamed token."""
    from ops.ask import stream

    session = prepare(request, images=False)
    preflight(session)
    deployment = session.pulumi.export()
    found: dict[str, Any] = outputs(deployment)
    if not found.get("endpoints"):
        raise OpsError(f"stack {request.stack} is not up\nfix: `make up STACK={request.stack}`")
    changed = repair.drifted(session.pulumi.tools.docker, session.pulumi.config_files(deployment))
    for one in changed:
        say(f"drift: {one.path} was edited in its volume (`make up` writes it again)")
    settings.write_certificates(session.pulumi)
    result = stream(session.pulumi, "Say hello.", request.model, echo=False)
    say(f"first token after {result.first_token_s * 1000:.0f} ms")
    print("all is well" if not changed else "answers, with drift: run `make up`")
    return 1 if changed else 0
