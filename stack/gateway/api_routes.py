"""Routes of the model API, the same on every listener that has it: OpenAI's below /v1, Ollama's own below /ollama.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from stack.config import gateway as model
from stack.config.model import Upstream
from stack.config.units import mebibytes
from stack.gateway import caddy, limits, places, upstreams
from stack.gateway.answers import not_allowed, not_found, route
from stack.gateway.caddy import Match, Route

REALM: Final = "private-llm"
PATHS: Final = ["/v1/*", "/ollama/*", "/m/*"]

_READ: Final = ["GET", "HEAD"]
_ANSWERS: Final = ["/v1/chat/completions", "/v1/completions", "/v1/responses"]
_NATIVE: Final = [f"/ollama/api/{name}" for name in ("chat", "generate", "embed", "embeddings")]
_NATIVE_LISTS: Final = [f"/ollama/api/{name}" for name in ("tags", "ps", "version")]
_SHOW: Final = ["/ollama/api/show"]
_LIST: Final = ["/v1/models", "/v1/models/*"]
_EMBEDDINGS: Final = ["/v1/embeddings"]
_POSTS: Final = [*_ANSWERS, *_EMBEDDINGS]

# All that leads anywhere.
DOORS: Final = (*_LIST, *_ANSWERS, *_EMBEDDINGS, *_NATIVE, *_NATIVE_LISTS, *_SHOW)


@dataclass(frozen=True, kw_only=True)
class Api:
    """The model API of one listener; `zone` keeps apart what addresses do on each."""

    settings: model.Gateway
    catalog: list[caddy.CatalogModel]
    engines: dict[str, caddy.Engine]
    elsewhere: Sequence[Upstream]
    zone: str

    def openai(self) -> list[Route]:
        """OpenAI's API below /v1, and with a model that the path names below /m/<model>/v1."""
        return [
            *self._pins(),
            route(
                Match(method=_READ, llm_path=_LIST),
                self.auth(None),
                caddy.LlmModels(models=self.catalog),
            ),
            self._forward(_ANSWERS, "chat"),
            self._forward(_EMBEDDINGS, "embeddings"),
            route(Match(llm_path=_LIST), *not_allowed(_READ)),
            route(Match(llm_path=_POSTS), *not_allowed(["POST"])),
        ]

    def native(self) -> list[Route]:
        """Ollama's own API below /ollama: inference only, never model management."""
        strip = caddy.Rewrite(strip_path_prefix="/ollama")
        return [
            self._forward(_NATIVE, "native", strip),
            self._forward(_SHOW, "show", strip),
            route(
                Match(method=_READ, llm_path=_NATIVE_LISTS),
                self.auth("native"),
                strip,
                caddy.LlmNative(engines=self.engines, models=self.catalog),
            ),
            route(Match(llm_path=[*_NATIVE, *_SHOW]), *not_allowed(["POST"])),
            route(Match(llm_path=_NATIVE_LISTS), *not_allowed(_READ)),
        ]

    def health(self) -> list[Route]:
        """Open to everybody, and tells nothing but yes or no."""
        return [
            route(
                Match(method=_READ, llm_path=["/health"]),
                caddy.LlmHealth(engines=self.engines, models=self.catalog),
            ),
            route(Match(llm_path=["/health"]), *not_allowed(_READ)),
        ]

    def nothing_else(self) -> Route:
        """Ends the search for every other address of the API."""
        return route(Match(llm_path=["/v1", "/ollama", "/m", *PATHS]), not_found())

    def auth(self, scope: str | None) -> caddy.Auth:
        """Lets consumers with this scope pass."""
        return caddy.Auth(
            consumers_file=f"{places.CONSUMERS_FOLDER}/{places.CONSUMERS_FILE}",
            realm=REALM,
            scope=scope,
            addresses=limits.addresses(self.settings.limits, self.zone),
        )

    def _pins(self) -> list[Route]:
        """A path that names its model, for clients that cannot be told one; who asks without a key learns no name."""
        known = [name for served in self.catalog for name in (served.id, *served.aliases)]
        pins = [
            Route(
                match=[
                    Match(method=["POST"], llm_path=_pinned(name, _POSTS)),
                    Match(method=_READ, llm_path=_pinned(name, _LIST)),
                ],
                handle=[caddy.Vars(llm_pinned=name), caddy.Rewrite(strip_path_prefix=f"/m/{name}")],
            )
            for name in known
        ]
        wrong_methods = [
            route(Match(llm_path=[path for name in known for path in _pinned(name, paths)]), *not_allowed(methods))
            for paths, methods in ((_POSTS, ["POST"]), (_LIST, _READ))
        ]
        rest: list[caddy.Handler] = [self.auth(None), caddy.Subroute(routes=wrong_methods), not_found()]
        return [*pins, route(Match(llm_path=["/m/*"]), *rest)]

    def _forward(self, paths: list[str], scope: str, *before: caddy.Rewrite) -> Route:
        return route(
            Match(method=["POST"], llm_path=paths),
            self.auth(scope),
            *before,
            caddy.Llm(
                engines=self.engines, models=self.catalog, max_body=mebibytes(self.settings.max_body) * 1024 * 1024
            ),
            upstreams.proxy(self.elsewhere),
        )


def _pinned(name: str, paths: list[str]) -> list[str]:
    return [f"/m/{name}{path}" for path in paths]
