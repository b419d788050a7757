"""The gateway: where it listens, under which names, with which certificate, and what one address may do. Pure."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from stack.config.resources import Resources
from stack.config.strict import Strict, refuse, twice, words
from stack.config.texts import Address, Email, Hostname, HttpsUrl, Network, Origin, Port
from stack.config.units import Duration, Size, mebibytes, seconds

# Domains that are everybody's own (RFC 6762, 6761, 8375) or used like that.
_OWN_NETWORKS: Final = (".home.arpa", ".internal", ".local", ".lan", ".home", ".test", ".example", ".invalid")
# Addresses that nobody on the internet has, of providers and of tailnets (RFC 6598).
_SHARED: Final = ip_network("100.64.0.0/10")

MOST_A_MINUTE: Final = 100_000  # the most that a consumer may be given


class Exposure(StrEnum):
    """Who can reach the gateway."""

    PRIVATE = "private"
    PUBLIC = "public"


class TlsMode(StrEnum):
    """Who vouches for the gateway."""

    INTERNAL = "internal"
    ACME = "acme"
    CERTIFICATE = "certificate"


class AdminListener(StrEnum):
    """Whether the pages for administrators have a port."""

    OFF = "off"
    LOCAL = "local"


class Tls(Strict):
    """Where the gateway's certificate comes from."""

    mode: Annotated[TlsMode, words(TlsMode)] = TlsMode.INTERNAL
    """`internal`: this stack's own authority, which clients are told to trust; `acme`: a public authority, for names
    that lead here from the internet; `certificate`: one of yours (`private-llm:tls-certificate` and the secret
    `private-llm:tls-key`, both PEM)."""
    email: Email | None = None
    """With `acme`: where the authority writes to."""
    directory: HttpsUrl | None = None
    """With `acme`: the directory of another authority than Let's Encrypt."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.mode is not TlsMode.ACME:
            refuse(
                [f"{name}: only with mode: acme" for name in ("email", "directory") if getattr(self, name) is not None]
            )
        return self


class Cors(Strict):
    """Web pages of other origins that may call the API from a browser."""

    origins: tuple[Origin, ...] = Field(default=(), strict=False)
    """For example https://app.example.org; empty is none."""


class Rate(Strict):
    """A token bucket: `events` in each `per` on average, and `burst` more at once."""

    events: Annotated[int, Field(ge=1, le=100_000)]
    """How many on average."""
    per: Duration
    """In which time."""
    burst: Annotated[int, Field(ge=0, le=100_000)] = 0
    """How many more at once, earned back at the same pace."""

    @property
    def a_minute(self) -> int:
        """Events a minute on average, rounded down."""
        return int(self.events * 60 / seconds(self.per))


class Limits(Strict):
    """What one address may do (IPv6: one /64 network) before 429, and for how long it is turned away after that."""

    api: Rate = Rate(events=30, per="1m", burst=10)
    """API requests without a valid key. Also the rate of each consumer that names none of its own."""
    chat: Rate = Rate(events=10, per="1s", burst=20)
    """Requests to the chat UI (what its pages read may be four times as much, static files have a wide limit of their
    own), and to public services of yours."""
    sign_in: Rate = Rate(events=10, per="1m", burst=5)
    """Attempts to sign in to the chat UI."""
    failures: Rate = Rate(events=10, per="10m", burst=0)
    """Wrong passwords and wrong keys before the address is banned."""
    ban: Duration = "1m"
    """The first ban of an address; each further one is twice as long."""
    longest_ban: Duration = "1h"
    """No ban is longer; after this time without failures everything is forgotten."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        problems = []
        if self.api.a_minute < 1:
            problems.append("api: it is the rate of consumers too, which needs at least 1 request a minute")
        if seconds(self.longest_ban) < seconds(self.ban):
            problems.append(f"longestBan: it must not be shorter than ban ({self.ban})")
        refuse(problems)
        return self


class Gateway(Strict):
    """The one service that publishes ports."""

    exposure: Annotated[Exposure, words(Exposure)] = Exposure.PRIVATE
    """`private`: this machine, or the private network that `address` is on. `public`: anybody who can reach `address`;
    demands a certificate that browsers know, an expiry or a limit of its own on every key, and sign-up closed."""
    address: Address = "127.0.0.1"
    """The host's address that the ports are published on."""
    https_port: Port = 8443
    """Port of the chat and the API."""
    http_port: Port = 8080
    """Port that only redirects to HTTPS."""
    hostnames: tuple[Hostname, ...] = Field(default=("localhost",), min_length=1, strict=False)
    """Names the gateway answers to; the first one is in the URLs that are printed. Other names get 421."""
    chat_hostnames: tuple[Hostname, ...] = Field(default=(), strict=False)
    """Names for the chat alone, for example chat.home.arpa; the chat then has no place under the other names."""
    api_hostnames: tuple[Hostname, ...] = Field(default=(), strict=False)
    """Names for the API alone, for example api.home.arpa; the API then has no place under the other names."""
    trusted_proxies: tuple[Network, ...] = Field(default=(), strict=False)
    """Addresses or networks of a proxy of yours in front, as the gateway sees them, whose last `X-Forwarded-For` entry
    is taken for the client. Needed behind cloudflared, a reverse proxy or NAT: else all clients are one address, and
    one wrong password too many bans everybody."""
    tls: Tls = Tls()
    cors: Cors = Cors()
    limits: Limits = Limits()
    admin: Annotated[AdminListener, words(AdminListener)] = AdminListener.OFF
    """A port of its own on 127.0.0.1 for Grafana and Prometheus, for keys of scope `admin`: `off` or `local`."""
    admin_port: Port = 9443
    """That port."""
    max_body: Size = "32MiB"
    """Largest request body on the API."""
    max_upload: Size = "256MiB"
    """Largest document that the chat accepts."""
    resources: Resources = Resources(memory="256MiB", cpus=2)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, the most general first, each once."""
        return tuple(dict.fromkeys((*self.hostnames, *self.chat_hostnames, *self.api_hostnames)))

    @model_validator(mode="after")
    def _possible(self) -> Self:
        problems = []
        ports = {"httpsPort": self.https_port, "httpPort": self.http_port}
        if self.admin is AdminListener.LOCAL:
            ports["adminPort"] = self.admin_port
        for port in twice([str(port) for port in ports.values()]):
            first, second, *_ = (name for name, number in ports.items() if str(number) == port)
            problems.append(f"{second}: {first} is {port} too; they must differ")
        if mebibytes(self.max_body) * 4 > mebibytes(self.resources.memory):
            problems.append(
                f"maxBody: bodies are read into memory, so it must be at most a quarter of resources.memory "
                f"({self.resources.memory})"
            )
        problems += self._names_twice()
        problems += self._exposed()
        refuse(problems)
        return self

    def _names_twice(self) -> list[str]:
        groups = {"hostnames": self.hostnames, "chatHostnames": self.chat_hostnames, "apiHostnames": self.api_hostnames}
        known = [name for names in groups.values() for name in names]
        return [
            f"{group}: {name!r} is there more than once; a name leads to one place"
            for name in twice(known)
            for group in [next(group for group, names in reversed(groups.items()) if name in names)]
        ]

    def _exposed(self) -> list[str]:
        address = ip_address(self.address)
        problems = []
        if self.exposure is Exposure.PRIVATE:
            if address.is_unspecified or not (address.is_loopback or _private(address)):
                problems.append(
                    "address: `private` publishes on this machine (127.0.0.1, ::1) or on an address of a private "
                    "network; set exposure: public for more"
                )
        elif self.tls.mode is TlsMode.INTERNAL:
            problems.append("tls.mode: `public` needs a certificate that browsers know; allowed: acme, certificate")
        if self.tls.mode is TlsMode.ACME:
            if self.http_port != 80 and self.https_port != 443:
                problems.append(
                    "httpPort: an ACME authority knocks on port 80 or 443: set httpPort: 80 or httpsPort: 443"
                )
            problems += self._unknown_to_authorities()
        return problems

    def _unknown_to_authorities(self) -> list[str]:
        groups = {"hostnames": self.hostnames, "chatHostnames": self.chat_hostnames, "apiHostnames": self.api_hostnames}
        theirs = "no ACME authority vouches for it; give a name of a domain, or choose another tls.mode"
        here = "no authority of the internet vouches for it; set tls.directory to one of your network"
        return [
            f"{group}[{which}]: {theirs if _nowhere(name) else here}"
            for group, names in groups.items()
            for which, name in enumerate(names)
            if _nowhere(name) or (self.tls.directory is None and name.endswith(_OWN_NETWORKS))
        ]


def _private(address: IPv4Address | IPv6Address) -> bool:
    return address.is_private or address in _SHARED


def _nowhere(name: str) -> bool:
    """Whether a name leads nowhere but to the machine itself, or is an address."""
    return "." not in name or name.endswith(".localhost") or name.rpartition(".")[2].isdigit()
