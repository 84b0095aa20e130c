"""The `metadata` of an OpenSLO document: its name and our annotation."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stream.config.problems import Position, quoted
from stream.config.sections import Section

NAME_CHARACTERS_MAX = 63
SAMPLING = "qma/sampling"
FIELDS = ("name", "displayName", "labels", "annotations")

# Source: RFC 1123, section 2.1 (a label may start with a digit), in lower case as in Kubernetes.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What the metadata of a document says.

    Args:
        name: The name; None after its absence was reported.
        name_position: Where the name stands.
        sampling_none: The document declares that its producers do not sample.
    """

    name: str | None
    name_position: Position
    sampling_none: bool


def read_metadata(section: Section) -> Metadata:
    """Returns what a `metadata` section says, after reporting what is wrong in it."""
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
    return Metadata(name=name, name_position=position, sampling_none=_sampling_none(section))


def slug(text: str) -> str:
    """Returns `text` as a name: lower case, runs of anything but a-z and 0-9 as `-`. May be empty."""
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")[:NAME_CHARACTERS_MAX].strip("-")


def _sampling_none(section: Section) -> bool:
    annotations = section.section("annotations", None)
    if annotations is None:
        return False
    values = {key: annotations.text(key) for key in annotations.entries}
    for key in values:
        # Other prefixes belong to other tools; a misspelling of ours must not be passed over.
        if key.startswith("qma/") and key != SAMPLING:
            at = annotations.entries[key].key_position
            annotations.refuse_at(
                at, annotations.path_of(key), f"is not a known annotation; did you mean `{SAMPLING}`?"
            )
    declared = values.get(SAMPLING)
    if declared is not None and declared != "none":
        fix = "write `none` if the producers send every span, otherwise remove the annotation"
        annotations.refuse(SAMPLING, f"{quoted(declared)} is no value of this annotation; {fix}")
    return declared == "none"
