"""The GPU that the configuration asks for can be handed to a container."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ops.preflight.finding import Context, Finding, Level
from stack.config.model import Accelerator

TOOLKIT: Final = "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html"
ROCM: Final = "https://rocm.docs.amd.com/projects/install-on-linux/en/latest/"


def accelerator(context: Context) -> Accelerator:
    """What this host's own engine computes on; without one, nothing is asked of the host."""
    return context.platform.engine.accelerator if context.platform.uses_engine else Accelerator.CPU


def _refused(check: str, context: Context, what: str, fix: str) -> Finding:
    return Finding(
        check=check,
        level=Level.REFUSED,
        what=what,
        where=f"private-llm:platform.engine.accelerator is {context.platform.engine.accelerator} in {context.file}",
        fix=f"{fix}, or set accelerator: cpu",
    )


class NvidiaRuntime:
    """Docker can hand NVIDIA GPUs to containers."""

    name = "nvidia runtime"
    local = False

    def check(self, context: Context) -> Finding | None:
        """Looks for the runtime, CDI devices, or (on this machine) the toolkit's hook."""
        if accelerator(context) is not Accelerator.NVIDIA or has_nvidia(context.info):
            return None
        hook = ("usr/bin", "usr/local/bin", "usr/local/nvidia/toolkit")
        if not context.docker.remote and any(
            context.host.exists(f"/{folder}/nvidia-container-runtime-hook") for folder in hook
        ):
            return None
        return _refused(
            self.name,
            context,
            f"Docker at {context.docker.host} has no NVIDIA runtime and no CDI devices",
            f"install NVIDIA's container toolkit on the Docker host ({TOOLKIT}), then "
            "`sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker`",
        )


def has_nvidia(info: Mapping[str, Any]) -> bool:
    """Whether `docker info` shows a way to NVIDIA GPUs."""
    found = info.get("DiscoveredDevices") or []
    return "nvidia" in (info.get("Runtimes") or {}) or any(
        str(device.get("ID", "")).startswith("nvidia.com/gpu") for device in found
    )


class NvidiaDevices:
    """The driver works and has the GPUs that are listed."""

    name = "nvidia gpus"
    local = True

    def check(self, context: Context) -> Finding | None:
        """Asks nvidia-smi for indexes and UUIDs."""
        engine = context.platform.engine
        if accelerator(context) is not Accelerator.NVIDIA:
            return None
        listed = context.host.run("nvidia-smi", "--list-gpus")
        if listed is None or listed.code:
            said = "is not installed" if listed is None else f"says: {(listed.out + listed.err).strip()}"
            driver = f"install NVIDIA's driver and restart the machine until `nvidia-smi` lists the card ({TOOLKIT})"
            return _refused(self.name, context, f"the NVIDIA driver does not answer: nvidia-smi {said}", driver)
        there = {key for pair in re.findall(r"^GPU (\d+):.*UUID: (GPU-[0-9a-f-]+)", listed.out, re.M) for key in pair}
        missing = [gpu for gpu in engine.gpus if gpu not in there]
        if there and not missing:
            return None
        if not there:
            return _refused(
                self.name, context, "nvidia-smi lists no GPU", "see whether the card is seated and seen (`lspci`)"
            )
        return Finding(
            check=self.name,
            level=Level.REFUSED,
            what=f"GPU {', '.join(missing)} is not there; there are {', '.join(sorted(there, key=_by_index))}",
            where=f"private-llm:platform.engine.gpus in {context.file}",
            fix="list GPUs that are there, or remove gpus to use all of them",
        )


class AmdDevices:
    """The ROCm driver's devices are there."""

    name = "amd gpus"
    local = True

    def check(self, context: Context) -> Finding | None:
        """Looks for /dev/kfd and one render node per listed GPU."""
        engine = context.platform.engine
        if accelerator(context) is not Accelerator.AMD:
            return None
        absent = [path for path in ("/dev/kfd", "/dev/dri") if not context.host.exists(path)]
        if absent:
            return _refused(
                self.name,
                context,
                f"{' and '.join(absent)} not there: the AMD GPU driver is not loaded",
                f"install the amdgpu driver with ROCm on the host ({ROCM}) and restart it",
            )
        nodes = [name for name in context.host.names("/dev/dri") if name.startswith("renderD")]
        missing = [gpu for gpu in engine.gpus if int(gpu) >= len(nodes)]
        if not missing:
            return None
        return Finding(
            check=self.name,
            level=Level.REFUSED,
            what=f"GPU {', '.join(missing)} is not there; /dev/dri has {len(nodes)} render nodes, counted from 0",
            where=f"private-llm:platform.engine.gpus in {context.file}",
            fix="list GPUs that are there, or remove gpus to use all of them",
        )


def _by_index(gpu: str) -> tuple[bool, str]:
    return (not gpu.isdigit(), gpu.zfill(4))
