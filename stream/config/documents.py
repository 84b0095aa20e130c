"""The documents of OpenSLO files: their kind, their metadata and their `spec`, before what they say is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stream.config import composites, declarations, inventories, metadata, objectives
from stream.config.alert_policies import KINDS as ALERT_KINDS
from stream.config.annotations import Annotations
from stream.config.metadata import Metadata, check_description, read_metadata
from stream.config.problems import FILE_START, Problem, either, quoted
from stream.config.sections import Section, not_among, open_section
from stream.config.selector import METRIC_FIELDS
from stream.config.yaml_positions import FILE_BYTES_MAX, Documents, Node, read_documents

API_VERSION = "openslo/v1"

SPEC_FIELDS: Mapping[str, tuple[str, ...]] = {
    "SLO": objectives.SPEC_FIELDS,
    "SLI": ("description", *METRIC_FIELDS),
    "Service": ("description",),
    "DataSource": ("description", "type", "connectionDetails"),
    **ALERT_KINDS,
    "BudgetAdjustment": declarations.ADJUSTMENT_FIELDS,
    "Maintenance": declarations.MAINTENANCE_FIELDS,
    "Composite": composites.SPEC_FIELDS,
    "Inventory": inventories.SPEC_FIELDS,
}
"""Fields of the `spec` of each kind."""

_OURS = ("BudgetAdjustment", "Maintenance", "Composite", "Inventory")
_OF_OBJECTIVES = ("SLO", "Composite", "Inventory")
"""Kinds whose names become names of objectives: no two of them may share one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document of a known kind; parts that could not be read were reported and are None."""

    file: str
    kind: str
    metadata: Metadata | None
    spec: Section | None

    @property
    def name(self) -> str | None:
        """Its name."""
        return None if self.metadata is None else self.metadata.name

    @property
    def annotations(self) -> Annotations:
        """What our annotations say."""
        return Annotations() if self.metadata is None else self.metadata.annotations


@dataclass(slots=True)
class Files:
    """Everything that was read. `complete`: no document is missing because it could not be read."""

    documents: list[Document] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    complete: bool = True

    def of_kind(self, kind: str) -> list[Document]:
        """Returns the documents of a kind, in the order of the files."""
        return [document for document in self.documents if document.kind == kind]


def read_files(paths: Sequence[Path]) -> Files:
    """Returns the documents of all files with what is wrong with them so far. A file listed twice is read once."""
    files = Files()
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in seen:  # A shell pattern and a name may both list a file; that is no mistake.
            continue
        seen.add(path.resolve())
        documents = _read_file(path)
        files.problems += documents.problems
        files.complete &= documents.complete
        if documents.complete and not documents.nodes and not documents.problems:
            message = "holds no document; write an SLO into it or leave it out"
            files.problems.append(Problem(file=str(path), position=FILE_START, path="file", message=message))
        for node in documents.nodes:
            document = _open_document(str(path), node, files.problems)
            if document is not None:
                files.documents.append(document)
            files.complete &= document is not None and document.name is not None
    _check_unique(files)
    for document in files.documents:
        if document.spec is not None:
            check_description(document.spec)
    return files


def _read_file(path: Path) -> Documents:
    try:
        with path.open("rb") as file:
            return read_documents(str(path), file.read(FILE_BYTES_MAX + 1))
    except IsADirectoryError:
        message = f"is a directory; name the files in it, for example `{path}/*.yaml`"
    except OSError as error:
        message = f"cannot be read ({error.strerror}); check the name and the permissions"
    problem = Problem(file=str(path), position=FILE_START, path="file", message=message)
    return Documents(nodes=(), problems=(problem,), complete=False)


def _open_document(file: str, node: Node, problems: list[Problem]) -> Document | None:
    """Returns the frame of a document, or None after reporting why it is not read further."""
    root = open_section(node, file, "", ("apiVersion", "kind", "metadata", "spec"), problems)
    if root is None:
        return None
    kind = root.text("kind", missing=f"add `kind:` with {either(SPEC_FIELDS)}")
    wanted = declarations.API_VERSION if kind in _OURS else API_VERSION
    version = root.text("apiVersion", missing=f"add `apiVersion: {wanted}`")
    if version is not None and version != wanted:
        fix = f"write `{wanted}`" if kind in _OURS else f"convert the file and write `{wanted}`"
        root.refuse("apiVersion", f"{quoted(version)} is not supported; {fix}")
    if kind is None:
        return None
    if kind not in SPEC_FIELDS:
        root.refuse("kind", not_among(kind, tuple(SPEC_FIELDS)))
        return None
    section = root.section("metadata", metadata.FIELDS, missing="add `metadata: {name: my-name}`")
    found = None if section is None else read_metadata(section, kind)
    missing = None if kind == "Service" else f"add `spec:` with {', '.join(SPEC_FIELDS[kind])}"
    spec = root.section("spec", SPEC_FIELDS[kind], missing=missing)
    return Document(file=file, kind=kind, metadata=found, spec=spec)


def _check_unique(files: Files) -> None:
    """Reports names that two documents of one kind share, or two that make objectives."""
    first_of: dict[tuple[str, str], str] = {}
    for document in files.documents:
        if document.metadata is None or document.metadata.name is None:
            continue
        name, at = document.metadata.name, document.metadata.name_position
        here = f"{document.file}:{at.line}:{at.column}"
        first = first_of.setdefault((_names_of(document.kind), name), here)
        if first != here:
            message = f"{document.kind} {quoted(name)} is defined twice, first at {first}; rename or remove one"
            files.problems.append(Problem(file=document.file, position=at, path="metadata.name", message=message))


def _names_of(kind: str) -> str:
    """Returns the kind that a kind shares its names with."""
    return _OF_OBJECTIVES[0] if kind in _OF_OBJECTIVES else kind
