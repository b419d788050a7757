"""Headers of every answer, and what web pages of other origins may do. Pure."""

from __future__ import annotations

from typing import Final

from stack.gateway import caddy
from stack.gateway.caddy import Match, Route

# Answers of the API are data: nothing in them is to be run, framed or loaded.
API_CSP: Final = "default-src 'none'; frame-ancestors 'none'"
CSP: Final = "Content-Security-Policy"
A_YEAR: Final = 31_536_000

# What an upstream may not say for us.
OURS: Final = [
    "Access-Control-*",
    "Alt-Svc",
    CSP,
    f"{CSP}-Report-Only",
    "Referrer-Policy",
    "Server",
    "Strict-Transport-Security",
    "Via",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-Powered-By",
    "X-Xss-Protection",
]

# Where API clients put keys beside Authorization: the API refuses them there, and nothing else behind the gateway is
# shown one.
KEY_HEADERS: Final = [
    "X-Api-Key",
    "Api-Key",
    "*-Api-Key",
    "*-Auth-Token",
    "*-Access-Token",
    "*-Security-Token",
    "*-Subscription-Key",
    "X-Authorization",
    "X-Litellm-Key",
    "Proxy-Authorization",
]

# Of OpenAI's libraries; a browser asks before it sends them.
ALLOWED_HEADERS: Final = [
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "OpenAI-Beta",
    "OpenAI-Organization",
    "OpenAI-Project",
    *(
        f"X-Stainless-{name}"
        for name in (
            "Arch",
            "Async",
            "Custom-Poll-Interval",
            "Helper-Method",
            "Lang",
            "OS",
            "Package-Version",
            "Poll-Helper",
            "Raw-Response",
            "Retry-Count",
            "Runtime",
            "Runtime-Version",
            "Timeout",
        )
    ),
]


def security(*, public: bool, csp: str = API_CSP) -> list[caddy.Headers]:
    """For every answer, errors and redirects too. A handler behind may set a policy of its own for its pages."""
    fixed = {
        "X-Content-Type-Options": ["nosniff"],
        "X-Frame-Options": ["DENY"],
        "Referrer-Policy": ["strict-origin-when-cross-origin"],
        # The filters that it stands for are gone, and were used to attack pages.
        "X-XSS-Protection": ["0"],
    }
    if public:
        fixed["Strict-Transport-Security"] = [f"max-age={A_YEAR}"]
    return [
        caddy.Headers(
            response=caddy.HeaderOps(deferred=True, set=fixed, delete=["Server", "Via", "X-Powered-By", "Alt-Svc"])
        ),
        caddy.Headers(
            response=caddy.HeaderOps(deferred=True, require=caddy.Answer(headers={CSP: None}), set={CSP: [csp]})
        ),
        caddy.Headers(
            response=caddy.HeaderOps(
                deferred=True, require=caddy.Answer(status_code=[4, 5]), set={"Cache-Control": ["no-store"]}
            )
        ),
    ]


def policy(csp: str) -> caddy.Headers:
    """A content security policy of its own for what follows."""
    return caddy.Headers(response=caddy.HeaderOps(deferred=True, set={CSP: [csp]}))


def cors(origins: tuple[str, ...], paths: list[str]) -> list[Route]:
    """Answers the browsers' question before a request, and says on answers that these pages may read them."""
    if not origins:
        return []
    known: dict[str, list[str] | None] = {"Origin": list(origins)}
    allowed = {"Access-Control-Allow-Origin": ["{http.request.header.Origin}"]}
    asked: dict[str, list[str] | None] = {**known, "Access-Control-Request-Method": ["*"]}
    asks = Match(method=["OPTIONS"], llm_path=paths, header=asked)
    return [
        Route(
            match=[Match(llm_path=paths)],
            handle=[caddy.Headers(response=caddy.HeaderOps(deferred=True, add={"Vary": ["Origin"]}))],
        ),
        Route(
            match=[Match(llm_path=paths, header=known)],
            handle=[
                caddy.Headers(
                    response=caddy.HeaderOps(
                        deferred=True, set={**allowed, "Access-Control-Expose-Headers": ["Retry-After, X-Request-Id"]}
                    )
                )
            ],
        ),
        Route(
            match=[asks],
            handle=[
                caddy.Static(
                    status_code="204",
                    headers={
                        "Access-Control-Allow-Methods": ["GET, POST"],
                        "Access-Control-Allow-Headers": [", ".join(ALLOWED_HEADERS)],
                        "Access-Control-Max-Age": ["600"],
                    },
                )
            ],
            terminal=True,
        ),
    ]
