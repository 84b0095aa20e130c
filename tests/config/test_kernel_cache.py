"""Machine code that is kept between starts is that of the sources as they are."""

import ast
from importlib.util import find_spec
from pathlib import Path

from stream.config.kernel_cache import kernel_sources
from stream.core.otlp import scan


def imported(source):
    """Yields the modules of ours that a source imports, or imports names from."""
    for node in ast.walk(ast.parse(source.read_text())):
        if not isinstance(node, ast.ImportFrom) or node.module is None or not node.module.startswith("stream."):
            continue
        package = find_spec(node.module)
        yield package
        if package is not None and package.submodule_search_locations is not None:
            yield from (spec for alias in node.names if (spec := find_spec(f"{node.module}.{alias.name}")) is not None)


def test_every_module_whose_constants_kernels_may_use_is_among_the_sources():
    kernels = sorted(Path(scan.__file__).parent.glob("*.py"))
    used = {Path(spec.origin) for kernel in kernels for spec in imported(kernel)}
    assert {path.name for path in used} >= {"logs.py", "columns.py", "units.py"}
    assert used <= set(kernel_sources())
