"""The package's shape: no page library inside, short files, no circles, and tests that can fail."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "woodfisher_core"
MODULES = sorted(CORE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
LONGEST = 400


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_at_load(path: Path) -> set[str]:
    """Modules of the package imported when ``path`` is, imports inside functions left out."""
    known = {name_of(module) for module in MODULES}
    found, waiting = set(), list(ast.parse(path.read_text()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & known) or {node.module}
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return found & known


def test_imports_have_no_circles():
    """Every module can be imported before those that use it."""
    graph = {name_of(path): imports_at_load(path) - {name_of(path)} for path in MODULES}
    left = dict(graph)
    while free := [name for name, needs in left.items() if not needs & set(left)]:
        left = {name: needs for name, needs in left.items() if name not in free}
    assert left == {}
    assert "woodfisher_core.masks" in graph["woodfisher_core.pruning"]


def test_core_imports_no_page_library():
    """Importing every module of the core brings in neither Streamlit nor plotly."""
    code = (
        "import importlib, json, sys\n"
        f"for name in {[name_of(p) for p in MODULES if p.name != '__main__.py']!r}: importlib.import_module(name)\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'streamlit', 'plotly', 'app'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_short_and_say_what_they_are(path):
    """At most 400 lines and a docstring."""
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST
    assert ast.get_docstring(ast.parse(text)) or not text.strip()


def checks(node: ast.AST, helpers: set[str]) -> bool:
    """Whether ``node`` is an assertion, an expected error, or a call of a helper that holds one."""
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        known = {"pytest.raises", "pytest.warns", "expect", "torch.testing.assert_close", "np.testing.assert_allclose"}
        known |= {"pd.testing.assert_frame_equal"}
        return called in known | helpers
    return isinstance(node, ast.Assert)


@pytest.mark.parametrize("path", TESTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_test_can_fail(path):
    """Each test function asserts or expects an error, itself or through a helper of its file that does."""
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    can_fail = {f.name for f in functions if any(checks(node, set()) for node in ast.walk(f))}
    tests = [f for f in functions if f.name.startswith("test_")]
    assert tests
    assert [f.name for f in tests if not any(checks(node, can_fail) for node in ast.walk(f))] == []
