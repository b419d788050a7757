"""Entry point of the installed docker plugin: starts the bridge before the slow imports."""

import sys
from pathlib import Path

from offline.plugins import child


def start(folder: Path) -> None:
    """Run the plugin whose programs lie in `folder`."""
    programs = [folder / "pulumi-terraform-bridge", folder / "terraform-provider-docker"]
    for program in programs:
        if not program.is_file():
            sys.exit(f"the docker plugin is not complete: {program} is missing; run `make up` again")
    engine = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")
    reserved = child.reserve_port()
    bridge = child.start([str(programs[0]), f"127.0.0.1:{reserved.getsockname()[1]}"])
    try:
        from offline.plugins.docker_adapter import main  # noqa: PLC0415 - the bridge starts meanwhile
    except ImportError as missing:
        bridge.stop()
        sys.exit(f"the docker plugin cannot start: {missing}; run `make up` again")
    main(bridge, str(programs[1]), engine, reserved)


if __name__ == "__main__":
    start(Path(sys.path[0]).parent)
