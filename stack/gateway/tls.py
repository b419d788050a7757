"""Where the gateway's certificates come from. Pure."""

from __future__ import annotations

from typing import Final

from stack.config.gateway import AdminListener, Gateway, TlsMode
from stack.gateway import caddy, places
from stack.gateway.addresses import ADMIN, names

AUTHORITY: Final = "private-llm"
LETS_ENCRYPT: Final = "https://acme-v02.api.letsencrypt.org/directory"


def ours(settings: Gateway) -> list[str]:
    """Names that this stack's own authority vouches for."""
    own = names(settings) if settings.tls.mode is TlsMode.INTERNAL else []
    return list(dict.fromkeys([*own, *(ADMIN if settings.admin is AdminListener.LOCAL else [])]))


def render(settings: Gateway) -> tuple[caddy.Tls, caddy.Pki | None]:
    """Who vouches for which name; a name's certificate is got before the first client asks."""
    policies = []
    automate = ours(settings)
    if automate:
        policies.append(caddy.AutomationPolicy(subjects=automate, issuers=[caddy.InternalIssuer(ca=AUTHORITY)]))
    given = None
    if settings.tls.mode is TlsMode.ACME:
        issuer = caddy.AcmeIssuer(ca=settings.tls.directory or LETS_ENCRYPT, email=settings.tls.email)
        policies.append(caddy.AutomationPolicy(subjects=names(settings), issuers=[issuer]))
        automate = [*automate, *names(settings)]
    elif settings.tls.mode is TlsMode.CERTIFICATE:
        given = [
            caddy.CertificateFiles(
                certificate=f"{places.TLS_FOLDER}/{places.TLS_FILE}",
                key=f"{places.TLS_KEY_FOLDER}/{places.TLS_KEY_FILE}",
            )
        ]
    tls = caddy.Tls(
        certificates=caddy.Certificates(automate=automate or None, load_files=given),
        automation=caddy.Automation(policies=policies) if policies else None,
    )
    return tls, _authority() if ours(settings) else None


def _authority() -> caddy.Pki:
    root = caddy.RootKeyPair(
        certificate=f"{places.CA_FOLDER}/{places.CA_FILE}",
        private_key=f"{places.CA_KEY_FOLDER}/{places.CA_KEY_FILE}",
    )
    return caddy.Pki(certificate_authorities={AUTHORITY: caddy.Authority(name="Private LLM", root=root)})
