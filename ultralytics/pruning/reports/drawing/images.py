"""The part of a report with images: each is in it once, and shown again for each network, with what that finds."""

from __future__ import annotations

from collections.abc import Sequence

from ..contents import Report
from ..detections import Shown, Thing
from .charts import svg
from .markup import Markup, section, tag

TURN = 137.508  # degrees; hues this far apart stay apart for any number of classes
MOST_LABELS = 6  # in an image
LABEL = 17.0  # height of the text in an image


def same_images(report: Report) -> Markup | None:
    """Returns the images with what the networks find in them."""
    if not report.images:
        return section("The same images", report.about_images) if report.about_images else None
    content = [
        tag(
            "image",
            id=f"image{number}",
            width=image.width,
            height=image.height,
            href=f"data:image/jpeg;base64,{image.jpeg}",
        )
        for number, image in enumerate(report.images)
    ]
    rows = []
    for number, image in enumerate(report.images):
        figures = [
            tag("figure", seen_in(image, number, things), tag("figcaption", f"{name}: {len(things)} found"))
            for name, things in image.found.items()
        ]
        rows.append(tag("div", tag("h3", image.name), tag("div", figures, class_="row")))
    hidden = tag("svg", tag("defs", content), width=0, height=0, style="position:absolute", aria_hidden="true")
    few = "images few" if len(report.images[0].found) <= 2 else "images"
    return section("The same images", report.about_images, _classes(report), hidden, tag("div", rows, class_=few))


def _classes(report: Report) -> Markup:
    """Returns the colours of the classes that were found."""
    things = [thing for image in report.images for found in image.found.values() for thing in found]
    kinds = dict(sorted({thing.kind: thing.label for thing in things}.items()))
    keys = [
        tag("span", tag("i", class_="key", style=f"background:{colour_of(kind)}"), name) for kind, name in kinds.items()
    ]
    return tag("div", keys, class_="legend")


def colour_of(kind: int) -> str:
    """Returns the colour of a class."""
    return f"hsl({(kind * TURN + 200) % 360:.0f} 90% 62%)"


def seen_in(image: Shown, number: int, things: Sequence[Thing]) -> Markup:
    """Returns an image with what a network found in it; the image itself is in the page once, as `#imageNUMBER`.

    Labels are written only where they leave something of the image to be seen, with any of the networks.
    """
    is_labelled = max(map(len, image.found.values()), default=0) <= MOST_LABELS
    drawn: list[Markup] = [tag("use", href=f"#image{number}")]
    labels: list[Markup] = []
    for thing in sorted(things, key=lambda thing: thing.confidence):
        colour, said = colour_of(thing.kind), f"{thing.label} {thing.confidence:.2f}"
        corners = [(x * image.width, y * image.height) for x, y in thing.outline]
        if corners:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
            drawn.append(tag("polygon", tag("title", said), points=path, stroke=colour, class_="found"))
        for x, y in thing.points:
            drawn.append(tag("circle", cx=x * image.width, cy=y * image.height, r=3.0, fill=colour))
        labels += _label(said, corners, image, colour) if is_labelled else []
    return svg(image.width, image.height, f"{image.name}: {len(things)} found", drawn, labels, class_="picture")


def _label(said: str, corners: Sequence[tuple[float, float]], image: Shown, colour: str) -> list[Markup]:
    """Returns what is written at a thing: above its left upper corner, or within where there is no room."""
    width, height = 0.56 * LABEL * len(said) + 6, LABEL + 3
    left, top = (min(x for x, _ in corners), min(y for _, y in corners)) if corners else (0.0, 0.0)
    x, y = min(max(left, 0.0), max(image.width - width, 0.0)), max(top - height, 0.0)
    box = tag("rect", x=x, y=y, width=width, height=height, fill=colour)
    return [box, tag("text", said, x=x + 3, y=y + LABEL - 1, font_size=LABEL, class_="on")]
