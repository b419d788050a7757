"""What people see at the end of `up` and in `status`: tables of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ops.request import stack_word


def table(rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Left-aligned columns, two spaces apart."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return "\n".join(
        (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()
        for row in rows
    )


def summary(stack: str, outputs: Mapping[str, Any], admin: str | None, source: str) -> str:
    """Where to go now, how to sign in, what is different from usual."""
    urls = outputs.get("endpoints") or {}
    suffix = stack_word(stack)
    rows = [[name, str(urls[name])] for name in ("chat", "api", "health", "grafana", "prometheus") if urls.get(name)]
    if admin and urls.get("chat"):
        rows.append(["sign in", f"{admin}, password: make password{suffix}"])
    rows.append(["API key", f"make key NAME=default{suffix}"])
    rows.append(["try it", f'make ask Q="Why is the sky blue?"{suffix}'])
    rows.append(["trust", f"make trust{suffix}  (this computer then accepts the certificate)"])
    for model in outputs.get("models") or ():
        names = ", ".join([model["id"], *(model.get("aliases") or ())])
        rows.append(["model", f"{names}: {model['note']}" if model.get("note") else names])
    rows += [["left out", f"{part['name']}: {part['why']}"] for part in outputs.get("leftOut") or ()]
    if source == "mirror":
        rows.append(["source", "package mirrors: images built here from packages, stand-in models"])
    return f"\nstack {stack} is up\n{table(rows)}"


def mebibytes(text: str) -> float:
    """The used part of Docker's `12.3MiB / 1GiB` in MiB; 0 when it is not one."""
    units = {"GiB": 1024.0, "MiB": 1.0, "KiB": 1 / 1024, "kB": 1000 / 1048576, "MB": 1e6 / 1048576, "GB": 1e9 / 1048576}
    used = text.split("/", maxsplit=1)[0].strip()
    for unit, factor in units.items():
        if used.endswith(unit):
            return float(used.removesuffix(unit)) * factor
    return float(used.removesuffix("B")) / 1048576 if used.endswith("B") else 0.0


def services(containers: Sequence[Mapping[str, Any]], stats: Sequence[Mapping[str, Any]], prefix: str) -> str:
    """One row a container: service, state and health, memory in MiB, image; and the sum of the memory."""
    memory = {str(row["Name"]): mebibytes(str(row["MemUsage"])) for row in stats}
    rows = [["SERVICE", "STATE", "MEMORY", "IMAGE"]]
    for row in sorted(containers, key=lambda one: str(one["Names"])):
        name = str(row["Names"])
        used = f"{memory[name]:.0f} MiB" if name in memory and row.get("State") == "running" else "-"
        image = str(row["Image"])
        short = image.split("@", maxsplit=1)[0] if not image.startswith("sha256:") else image[:19]
        rows.append([name.removeprefix(prefix), str(row["Status"]), used, short])
    total = sum(memory.values())
    return f"{table(rows, '')}\ntotal memory: {total:.0f} MiB"
