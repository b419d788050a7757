"""Ports published on 127.0.0.1 stay on this machine: before Docker 28 the kernel lets a neighbour in."""

from __future__ import annotations

import re
from ipaddress import ip_address

from ops.engine import LOOPBACK_RULE as RULE
from ops.engine import SAFE_LOOPBACK as SAFE
from ops.preflight.finding import Context, Finding, Level


class LoopbackIsolation:
    """Warns when packets from the network can reach ports published on 127.0.0.1."""

    name = "loopback"
    local = True

    def check(self, context: Context) -> Finding | None:
        """Looks for the raw rule; without root it cannot be seen."""
        version = re.match(r"\d+", str(context.info.get("ServerVersion", "")))
        if version is None or int(version[0]) >= SAFE or ip_address(context.platform.gateway.address).version != 4:
            return None
        seen = context.host.run("iptables", "-w", "-t", "raw", "-C", *RULE)
        if seen is not None and seen.code == 0:
            return None
        unseen = seen is None or re.search(r"permission denied|must be root", seen.err, re.IGNORECASE)
        return Finding(
            check=self.name,
            level=Level.WARNING,
            what=(
                f"before Docker {SAFE} (this is {context.info['ServerVersion']}) a machine on the same network segment "
                "reaches ports published on 127.0.0.1 (keys and passwords still hold)"
                + ("; whether a firewall rule stops it cannot be seen without root" if unseen else "")
            ),
            where="the host's firewall, table raw",
            fix=f"`sudo iptables -t raw -I {' '.join(RULE)}` (lost at the next start of the machine), or Docker {SAFE}",
        )
