"""The Pulumi CLI, its Python language host and the programs behind the docker plugin, built from Go modules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from offline.gomod import GoProgram, Say, build, module_folder
from offline.plugins.install import Plugin, ensure_installed, lasting
from stack import versions

LANGUAGE_HOST_VERSION = "3.78.0"
BRIDGE_VERSION = "3.137.0"
TERRAFORM_DOCKER_VERSION = "v0.0.0-20260916201441-96d331c98ff4"

# The host starts programs by the first, policy packs by the second.
LANGUAGE_HOST_SCRIPTS = ("python/cmd/pulumi-language-python-exec", "python/dist/pulumi-analyzer-policy-python")

PULUMI = GoProgram(
    binary="pulumi",
    title="the Pulumi CLI",
    module="github.com/pulumi/pulumi/pkg/v3",
    package="github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
    version=f"v{versions.PULUMI}",
    stamps={"github.com/pulumi/pulumi/sdk/v3/go/common/version.Version": f"v{versions.PULUMI}"},
    minutes=3,
)
# The last host that is part of a published module. It serves newer SDKs and CLIs, but newer CLIs send it the options of
# `Pulumi.yaml` in a message that it does not read, so LANGUAGE_SHIM stands before it.
LANGUAGE_HOST = GoProgram(
    binary="pulumi-language-python-host",
    title="Pulumi's Python language host",
    module="github.com/pulumi/pulumi/sdk/v3",
    package="github.com/pulumi/pulumi/sdk/v3/python/cmd/pulumi-language-python",
    version=f"v{LANGUAGE_HOST_VERSION}",
    stamps={"github.com/pulumi/pulumi/sdk/v3/go/common/version.Version": f"v{LANGUAGE_HOST_VERSION}"},
    minutes=1,
)
BRIDGE = GoProgram(
    binary="pulumi-terraform-bridge",
    title="Pulumi's Terraform bridge",
    module="github.com/pulumi/pulumi-terraform-bridge/v3",
    package="github.com/pulumi/pulumi-terraform-bridge/v3/dynamic",
    version=f"v{BRIDGE_VERSION}",
    replaces=(
        (
            "github.com/hashicorp/terraform-plugin-sdk/v2",
            "github.com/pulumi/terraform-plugin-sdk/v2",
            "v2.0.0-20260318212141-5525259d096b",
        ),
    ),
    minutes=2,
)
TERRAFORM_DOCKER = GoProgram(
    binary="terraform-provider-docker",
    title="the Terraform Docker provider",
    module="github.com/terraform-providers/terraform-provider-docker",
    package="github.com/terraform-providers/terraform-provider-docker",
    version="v0.0.0",
    replaces=(
        (
            "github.com/terraform-providers/terraform-provider-docker",
            "github.com/kreuzwerker/terraform-provider-docker",
            TERRAFORM_DOCKER_VERSION,
        ),
    ),
    minutes=2,
)

LANGUAGE_SHIM = """#!/bin/sh
# Hands the virtual environment named in Pulumi.yaml to the language host as a flag, which is where it looks for it.
here=$(dirname "$(readlink -f "$0")")
project=$PWD
while [ "$project" != / ] && [ ! -f "$project/Pulumi.yaml" ]; do project=$(dirname "$project"); done
venv=$(sed -n "s/[[:space:]]#.*//; s/^[[:space:]]*virtualenv:[[:space:]]*//p" "$project/Pulumi.yaml" 2>/dev/null |
  head -n 1 | tr -d "\\"'\\r" | sed "s/[[:space:]]*\\$//")
exec "$here/pulumi-language-python-host" ${venv:+"-root=$project" "-virtualenv=$venv"} "$@"
"""


def ensure_toolchain(cache: Path, say: Say) -> None:
    """Build the Pulumi CLI and its language host into `<cache>/tools/pulumi-<version>/bin`; quick when there.

    Raises OfflineError.
    """
    folder = pulumi_folder(cache)
    build(PULUMI, folder, cache, say)
    build(LANGUAGE_HOST, folder, cache, say)
    put_script(folder / "pulumi-language-python", LANGUAGE_SHIM)
    scripts = [folder / Path(source).name for source in LANGUAGE_HOST_SCRIPTS]
    if all(script.is_file() for script in scripts):
        return
    module = module_folder(LANGUAGE_HOST, cache, say)
    for source, script in zip(LANGUAGE_HOST_SCRIPTS, scripts, strict=True):
        put_script(script, quiet_on_interrupt((module / source).read_text()))


def quiet_on_interrupt(script: str) -> str:
    """A Python script of the host that ends at once, without a traceback, when the CLI interrupts a program.

    The CLI does that each time a resource has failed, so the traceback would bury the error. Shell scripts are
    returned as they are.
    """
    shebang, _, rest = script.partition("\n")
    if "python" not in shebang:
        return script
    return f"{shebang}\nimport signal\n\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n{rest}"


def put_script(target: Path, text: str) -> None:
    """Write an executable script unless it is there with this text; never half of it."""
    if target.is_file() and target.read_text() == text:
        return
    part = target.with_suffix(".part")
    part.write_text(text)
    part.chmod(0o755)
    part.replace(target)


def ensure_plugins(cache: Path, say: Say, python: Path | None = None) -> None:
    """Put the stand-ins for the docker, command and tailscale plugins into `<cache>/pulumi/plugins`; quick when there.

    `python` is the interpreter that will run them (it needs the `pulumi` package); the running one when not given.
    Official plugins of the same versions are left alone. Raises OfflineError.
    """
    folder = cache / "tools" / f"docker-bridge-{BRIDGE_VERSION}"
    programs = {program.binary: build(program, folder, cache, say) for program in (BRIDGE, TERRAFORM_DOCKER)}
    for plugin in stand_ins(programs):
        ensure_installed(plugin, cache / "pulumi" / "plugins", lasting(python), cache, say)


def pulumi_folder(cache: Path) -> Path:
    """Where the Pulumi CLI lies; belongs on PATH."""
    return cache / "tools" / f"pulumi-{versions.PULUMI}" / "bin"


def stand_ins(programs: Mapping[str, Path]) -> tuple[Plugin, ...]:
    """The plugins that are stood in for; `programs` are the two behind docker."""
    return (
        Plugin(
            name="docker",
            version=versions.PLUGINS["docker"],
            runs="run_docker",
            programs=programs,
            modules=("child", "docker_adapter", "docker_leftovers", "docker_names", "protocol", "values", "wire"),
        ),
        Plugin(
            name="command",
            version=versions.PLUGINS["command"],
            runs="command",
            modules=("command_rules", "command_runs", "protocol", "values", "wire"),
        ),
        Plugin(
            name="tailscale",
            version=versions.PLUGINS["tailscale"],
            runs="tailscale",
            modules=("protocol", "tailscale_api", "tailscale_rules", "values", "wire"),
        ),
    )
