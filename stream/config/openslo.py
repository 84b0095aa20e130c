"""OpenSLO v1 files in, frozen objectives out, or one error with a line per problem.

Accepted: the kinds SLO, SLI, Service and DataSource; budgeting method Occurrences; one rolling window of 1 h
to 90 d; ratio metrics and latency thresholds over our own selector (see `selector`). Everything else is
refused with a line that says so: a field that is passed over in silence is a promise that nobody keeps.

Source: OpenSLO specification v1, https://github.com/OpenSLO/OpenSLO.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stream.config import metadata as metadata_section
from stream.config import objectives as slo_section
from stream.config.metadata import Metadata, read_metadata
from stream.config.objectives import Slo, read_objectives
from stream.config.problems import FILE_START, Problem, either, nearest, quoted, refuse_if_any
from stream.config.sections import Section, not_among, open_section
from stream.config.selector import SOURCE_TYPE, Indicator, read_indicator
from stream.config.yaml_positions import FILE_BYTES_MAX, Documents, Node, read_documents
from stream.core.slo.spec import Objective

API_VERSION = "openslo/v1"
ALERT_KINDS = ("AlertPolicy", "AlertCondition", "AlertNotificationTarget")
DESCRIPTION_CHARACTERS_MAX = 1050

_SPEC_FIELDS: Mapping[str, tuple[str, ...]] = {
    "SLO": slo_section.SPEC_FIELDS,
    "SLI": ("description", "ratioMetric", "thresholdMetric"),
    "Service": ("description",),
    "DataSource": ("description", "type", "connectionDetails"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """A document of a known kind; parts that could not be read were reported and are None."""

    file: str
    kind: str
    metadata: Metadata | None
    spec: Section | None

    @property
    def name(self) -> str | None:
        return None if self.metadata is None else self.metadata.name


@dataclass(slots=True)
class _Files:
    """Everything that was read. `complete`: no document is missing because it could not be read."""

    documents: list[_Document] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    complete: bool = True

    def of_kind(self, kind: str) -> list[_Document]:
        return [document for document in self.documents if document.kind == kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """What an SLO can refer to by name. None: it exists but was refused."""

    indicators: Mapping[str, Indicator | None]
    source_types: Mapping[str, str | None]
    complete: bool


def load_objectives(paths: Sequence[Path]) -> list[Objective]:
    """Returns the objectives of all SLOs in the files, in the order of the files.

    Args:
        paths: YAML files with one or more OpenSLO documents each; an SLO may refer to an SLI in any of them.

    Raises:
        ConfigError: When anything is wrong. Its message has one line for every problem in every file:
            `file:line:column: field: what is wrong; how to fix it`.
    """
    files = _read_files(paths)
    _check_unique(files)
    for document in files.documents:
        if document.spec is not None:
            _check_description(document.spec)
    named = _read_named(files)
    objectives = [one for document in files.of_kind("SLO") for one in _slo_objectives(document, named)]
    if not objectives and not files.problems:
        message = "no document has the kind SLO, so there is nothing to apply; pass a file with an SLO"
        first = str(paths[0]) if paths else "(no file)"
        files.problems.append(Problem(file=first, position=FILE_START, path="kind", message=message))
    refuse_if_any(files.problems)
    return objectives


def _read_named(files: _Files) -> _Named:
    """Returns the indicators and data sources; of two that share a name the first."""
    source_types: dict[str, str | None] = {}
    for document in files.of_kind("DataSource"):
        source_type = _source_type(document)
        if document.name is not None:
            source_types.setdefault(document.name, source_type)
    indicators: dict[str, Indicator | None] = {}
    for document in files.of_kind("SLI"):
        indicator = None if document.spec is None else read_indicator(document.spec, source_types)
        if document.name is not None:
            indicators.setdefault(document.name, indicator)
    return _Named(indicators=indicators, source_types=source_types, complete=files.complete)


def _read_files(paths: Sequence[Path]) -> _Files:
    files = _Files()
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


def _open_document(file: str, node: Node, problems: list[Problem]) -> _Document | None:
    """Returns the frame of a document, or None after reporting why it is not read further."""
    root = open_section(node, file, "", ("apiVersion", "kind", "metadata", "spec"), problems)
    if root is None:
        return None
    version = root.text("apiVersion", missing=f"add `apiVersion: {API_VERSION}`")
    if version is not None and version != API_VERSION:
        root.refuse("apiVersion", f"{quoted(version)} is not supported; convert the file and write `{API_VERSION}`")
    kind = root.text("kind", missing=f"add `kind:` with {either(_SPEC_FIELDS)}")
    if kind is None:
        return None
    if kind in ALERT_KINDS:
        fix = "remove this document: page and ticket burn-rate alerts are derived from each objective"
        root.refuse("kind", f"{quoted(kind)} is not supported in this version; {fix}")
        return None
    if kind not in _SPEC_FIELDS:
        root.refuse("kind", not_among(kind, tuple(_SPEC_FIELDS)))
        return None
    section = root.section("metadata", metadata_section.FIELDS, missing="add `metadata: {name: my-name}`")
    metadata = None if section is None else read_metadata(section)
    if section is not None and metadata is not None and kind != "SLO":
        _refuse_sampling(section, metadata, f"kind {kind}")
    missing = None if kind == "Service" else f"add `spec:` with {', '.join(_SPEC_FIELDS[kind])}"
    spec = root.section("spec", _SPEC_FIELDS[kind], missing=missing)
    return _Document(file=file, kind=kind, metadata=metadata, spec=spec)


def _refuse_sampling(section: Section, metadata: Metadata, where: str) -> None:
    """Reports a declaration that stands where it would change nothing."""
    if metadata.sampling_none:
        fix = "move it to the metadata of the SLO"
        section.refuse("annotations", f"`{metadata_section.SAMPLING}` has no effect in {where}; {fix}")


def _check_unique(files: _Files) -> None:
    """Reports names that two documents of one kind share."""
    first_of: dict[tuple[str, str], str] = {}
    for document in files.documents:
        if document.metadata is None or document.metadata.name is None:
            continue
        name, at = document.metadata.name, document.metadata.name_position
        here = f"{document.file}:{at.line}:{at.column}"
        first = first_of.setdefault((document.kind, name), here)
        if first != here:
            message = f"{document.kind} {quoted(name)} is defined twice, first at {first}; rename or remove one"
            files.problems.append(Problem(file=document.file, position=at, path="metadata.name", message=message))


def _check_description(spec: Section) -> None:
    text = spec.text("description")
    if text is not None and len(text) > DESCRIPTION_CHARACTERS_MAX:
        message = f"has {len(text)} characters; shorten it to at most {DESCRIPTION_CHARACTERS_MAX}"
        spec.refuse("description", message)


def _source_type(document: _Document) -> str | None:
    if document.spec is None:
        return None
    document.spec.section("connectionDetails", None)
    return document.spec.text("type", missing=f"add `type: {SOURCE_TYPE}`")


def _slo_objectives(document: _Document, named: _Named) -> list[Objective]:
    if document.spec is None:
        return []
    slo = Slo(
        name=document.name,
        sampling_none=document.metadata is not None and document.metadata.sampling_none,
        indicator=_indicator_of(document.spec, named),
        spec=document.spec,
    )
    return read_objectives(slo)


def _indicator_of(spec: Section, named: _Named) -> Indicator | None:
    """Returns the indicator of an SLO, inline or referred to; None when there is none, which was reported."""
    if "indicatorRef" not in spec.entries:
        return _inline_indicator(spec, named)
    if "indicator" in spec.entries:
        spec.refuse("indicatorRef", "stands beside indicator; remove one of the two")
        return _inline_indicator(spec, named)
    reference = spec.text("indicatorRef")
    if reference is None or reference in named.indicators:
        return None if reference is None else named.indicators[reference]
    # Where a document could not be read, the SLI may be in it: do not send the operator after a ghost.
    if named.complete:
        guess = nearest(reference, named.indicators)
        fix = f"did you mean `{guess}`?" if guess else "pass the file that defines it as well"
        spec.refuse("indicatorRef", f"no SLI {quoted(reference)} in the given files; {fix}")
    return None


def _inline_indicator(spec: Section, named: _Named) -> Indicator | None:
    missing = "add `indicator:` with `metadata` and `spec`, or `indicatorRef:` with the name of an SLI"
    inline = spec.section("indicator", ("metadata", "spec"), missing=missing)
    if inline is None:
        return None
    metadata = inline.section("metadata", metadata_section.FIELDS)
    if metadata is not None:
        _refuse_sampling(metadata, read_metadata(metadata), "an indicator")
    inner = inline.section("spec", _SPEC_FIELDS["SLI"], missing="add `spec:` with `ratioMetric` or `thresholdMetric`")
    if inner is None:
        return None
    _check_description(inner)
    return read_indicator(inner, named.source_types)
