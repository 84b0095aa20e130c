"""The `metadata` of a document, and the description in its `spec`: what has the same form in every kind."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from stream.config.annotations import Annotations, read_annotations
from stream.config.problems import Position, quoted
from stream.config.sections import Section

NAME_CHARACTERS_MAX = 63
DESCRIPTION_CHARACTERS_MAX = 1050
FIELDS = ("name", "displayName", "labels", "annotations")

# Source: RFC 1123, section 2.1 (a label may start with a digit), in lower case as in Kubernetes.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What the metadata of a document says.

    Args:
        name: The name; None after its absence was reported.
        name_position: Where the name stands.
        annotations: What our annotations say.
    """

    name: str | None
    name_position: Position
    annotations: Annotations = field(default_factory=Annotations)


def read_metadata(section: Section, kind: str, where: str | None = None) -> Metadata:
    """Returns what a `metadata` section says, after reporting what is wrong in it.

    Args:
        section: The section.
        kind: Of the document.
        where: Names the place in messages; None: by the kind.
    """
    section.text("displayName")
    section.section("labels", None)
    name = section.text("name", missing="add `name: my-name`")
    if name is not None and len(name) > NAME_CHARACTERS_MAX:
        section.refuse("name", f"has {len(name)} characters; shorten it to at most {NAME_CHARACTERS_MAX}")
    elif name is not None and not _NAME.fullmatch(name):
        rule = "lower-case letters, digits and `-`, no `-` at an end (RFC 1123)"
        example = quoted(slug(name) or "my-name")
        section.refuse("name", f"{quoted(name)} is not a name: {rule}; write for example {example}")
    position = section.position if name is None else section.entries["name"].value.position
    return Metadata(name=name, name_position=position, annotations=read_annotations(section, kind, where))


def slug(text: str) -> str:
    """Returns `text` as a name: lower case, runs of anything but a-z and 0-9 as `-`. May be empty."""
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")[:NAME_CHARACTERS_MAX].strip("-")


def check_description(spec: Section) -> None:
    """Reports a description that is too long."""
    text = spec.text("description")
    if text is not None and len(text) > DESCRIPTION_CHARACTERS_MAX:
        message = f"has {len(text)} characters; shorten it to at most {DESCRIPTION_CHARACTERS_MAX}"
        spec.refuse("description", message)
