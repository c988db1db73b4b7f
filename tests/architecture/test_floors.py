"""The house's floors, read from the imports: a module imports from its own room or a lower floor, never up or sideways."""

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "p2pmodel"
FLOORS = {
    "__init__": 0, "errors": 0, "limits": 0,
    "content": 1,
    "wire": 2, "swarm": 2,
    "network": 2.5, "certificates": 2.5, "whole_file": 2.5, "own_address": 2.5,
    "delivery": 3,
    "store": 4, "peering": 4, "discovery": 4, "upstream": 4, "gateway": 4,
    "settings": 4.5, "config_file": 4.5, "sd": 4.5, "quiet": 4.5, "metrics": 5, "config": 5, "log": 5,
    "reports": 5, "admin": 5, "plan": 5, "belonging": 5.5, "entrance": 5.5, "announcing": 5.5,
    "daemon": 6, "process": 6.5,
    "demo": 7, "cli": 8, "handing": 9, "enabling": 9.5, "enabled": 10, "api": 10,
}  # fmt: skip
PURE_ROOMS = {"errors", "limits", "content", "wire", "swarm"}
WORLD = {
    "trio",
    "socket",
    "os",
    "pathlib",
    "threading",
    "time",
    "datetime",
    "asyncio",
    "subprocess",
    "secrets",
    "tempfile",
    "ssl",
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(module: Path) -> str:
    return module.relative_to(PACKAGE).with_suffix("").parts[0]


@cache
def imports(module: Path) -> list[str]:
    """Dotted names of everything a module imports, `if TYPE_CHECKING` included: a type from above is knowledge of above."""
    names = []
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def rooms_imported(module: Path) -> set[str]:
    found = set()
    for name in imports(module):
        parts = name.split(".")
        if parts[0] == "p2pmodel" and len(parts) > 1:
            found.add(parts[1] if parts[1] in FLOORS else "__init__")
    return found


def test_a_module_imports_only_its_own_room_or_a_lower_floor():
    for module in MODULES:
        here = room(module)
        assert here in FLOORS, f"{here} has no floor: say its room first"
        floor = 11 if here == "__init__" else FLOORS[here]  # the front door shows what stands on top, and tells the version
        for other in rooms_imported(module) - {here}:
            assert FLOORS[other] < floor, f"{module} imports {other}, which is not below {here}"


def test_the_pure_floors_do_not_touch_the_world():
    for module in MODULES:
        if room(module) in PURE_ROOMS:
            assert not {name.split(".")[0] for name in imports(module)} & WORLD, module


def test_delivery_knows_nothing_of_the_operating_system_but_descriptors():
    for module in MODULES:
        if room(module) == "delivery":
            roots = {name.split(".")[0] for name in imports(module)}
            assert not roots & {"socket", "threading", "time", "subprocess", "ssl", "asyncio"}, module


def test_the_test_would_notice_an_import_upwards(tmp_path):
    planted = tmp_path / "planted.py"
    planted.write_text("from p2pmodel.gateway import server\nimport p2pmodel.content.digest")
    assert rooms_imported(planted) == {"gateway", "content"}
