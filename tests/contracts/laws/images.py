"""Images: from the lock by digest, or built here from parts of the lock."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.contracts.laws import Finding, finding
from tests.support.recorder import IMAGE, Plan, image_id


def images_are_pinned(plan: Plan) -> Iterator[Finding]:
    """Every image is pinned: of the lock or an own service's by digest, or built here and named by its sources."""
    locked = {*plan.sample.parts.images.values(), *(s.image for s in plan.sample.platform.services if s.image)}
    for image in plan.of(IMAGE):
        reference = image.physical
        if image.clear("build"):
            good = re.fullmatch(r"private-llm-[a-z0-9-]+:[0-9a-f]{12}", reference)
            yield finding(image, bool(good), f"is built, but its name {reference} has no hash of what went in")
        else:
            yield finding(image, reference in locked, f"{reference} is not in the lock")
            pinned = re.search(r"@sha256:[0-9a-f]{64}$", reference)
            yield finding(image, bool(pinned), f"{reference} can change under its name: it has no digest")


def builds_start_from_pinned_images(plan: Plan) -> Iterator[Finding]:
    """Images that a build starts from are in the lock too."""
    locked = set(plan.sample.parts.images.values())
    for image in plan.of(IMAGE):
        for name, value in (image.clear("build") or {}).get("buildArgs", {}).items():
            if name.endswith("_IMAGE"):
                yield finding(f"{image} {name}", value in locked, f"{value} is not in the lock")


def containers_run_images_of_the_plan(plan: Plan) -> Iterator[Finding]:
    """A container names the id of an image of this plan, never a tag."""
    ids = {image_id(image.physical) for image in plan.of(IMAGE)}
    for container in plan.containers:
        yield finding(container, container.clear("image") in ids, f"runs {container.clear('image')}")


def images_stay_on_the_host(plan: Plan) -> Iterator[Finding]:
    """Images are kept when the platform goes (other stacks may use them), and none is there for nobody."""
    used = {container.clear("image") for container in plan.containers}
    for image in plan.of(IMAGE):
        yield finding(image, image.clear("keepLocally") is True, "would be removed from the host on destroy")
        yield finding(image, image_id(image.physical) in used, "is pulled, but no container runs it")
