"""Files of the project other than code: dependencies and pins, workflow, templates, citation."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
OWN_PACKAGES = {"video_swin_transformer", "benchmarks", "camera_motion", "tests"}
OWN_PACKAGES |= {"command_pages", "module_layers"}  # docs/_ext


def pins() -> dict[str, str]:
    """constraints.txt: canonical name -> version."""
    found: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            found[canonicalize_name(name)] = version
    return found


def direct(extra: str) -> Iterator[Requirement]:
    """Requirements of the package itself with an extra, the extras that it names included."""
    for requirement in map(Requirement, [*PROJECT["dependencies"], *EXTRAS[extra]]):
        if requirement.name == PROJECT["name"]:
            for inner in requirement.extras:
                yield from direct(inner)
        else:
            yield requirement


def imported_packages(file: Path) -> set[str]:
    """Top-level packages that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def unmet(extra: str) -> list[str]:
    """Requirements, direct and indirect, that neither a pin nor what is installed satisfies.

    With none, the pins together with the installed versions of everything else are a resolution.
    """
    pinned = pins()
    todo = [(requirement, PROJECT["name"]) for requirement in direct(extra)]
    seen: set[tuple[str, str]] = set()
    problems = []
    while todo:
        requirement, wanted_by = todo.pop()
        name = canonicalize_name(requirement.name)
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            problems.append(f"{wanted_by} needs {requirement}, which is not installed")
            continue
        version = pinned.get(name, installed.version)
        if not requirement.specifier.contains(version, prereleases=True):
            problems.append(f"{wanted_by} needs {requirement}, not {version}")
        for wanted_extra in ("", *requirement.extras):
            if (name, wanted_extra) in seen:
                continue
            seen.add((name, wanted_extra))
            for inner in map(Requirement, installed.requires or []):
                if inner.marker is None or inner.marker.evaluate({"extra": wanted_extra}):
                    todo.append((inner, f"{name} {installed.version}"))
    return problems


def test_every_direct_dependency_of_every_extra_is_pinned_within_its_bounds():
    pinned = pins()
    for extra in EXTRAS:
        for requirement in direct(extra):
            version = pinned.get(canonicalize_name(requirement.name))
            assert version, f"{extra}: {requirement} has no pin in constraints.txt"
            assert requirement.specifier.contains(version), f"{extra}: {requirement}, {version}"


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_pins_satisfy_every_requirement_of_an_extra(extra):
    assert unmet(extra) == []


def test_the_extra_all_holds_every_extra_that_users_install():
    named = {extra for entry in EXTRAS["all"] for extra in Requirement(entry).extras}
    assert named == set(EXTRAS) - {"all", "docs", "dev"}


def test_check_extras_resolves_every_extra():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (names,) = re.findall(r"^EXTRAS := (.*)$", makefile, flags=re.MULTILINE)
    assert sorted(names.split()) == sorted(EXTRAS)


def test_every_imported_package_is_a_direct_dependency():
    required = {canonicalize_name(requirement.name) for requirement in direct("dev")}
    distributions = packages_distributions()
    missing: dict[str, str] = {}
    for folder in ("src", "tests", "docs", "benchmarks", "camera_motion"):
        for file in (ROOT / folder).rglob("*.py"):
            for package in imported_packages(file) - sys.stdlib_module_names - OWN_PACKAGES:
                names = {canonicalize_name(name) for name in distributions.get(package, [])}
                if not names & required:
                    missing.setdefault(package, str(file.relative_to(ROOT)))
    assert missing == {}


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("github-workflows", ".github/workflows/ci.yml"),
        ("github-issue-forms", ".github/ISSUE_TEMPLATE/bug_report.yml"),
        ("github-issue-forms", ".github/ISSUE_TEMPLATE/feature_request.yml"),
        ("github-issue-config", ".github/ISSUE_TEMPLATE/config.yml"),
        ("citation-file-format", "CITATION.cff"),
    ],
)
def test_files_that_others_read_follow_their_schema(schema, file):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*command, str(ROOT / file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_tests_every_python_version_that_the_package_names():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert matrix["python"] == named
    systems = {*matrix["os"], *(entry["os"] for entry in matrix["include"])}
    assert systems == {"ubuntu-latest", "windows-latest", "macos-latest"}
    lowest = min(named, key=lambda version: int(version.partition(".")[2]))
    assert PROJECT["requires-python"] == f">={lowest}"


def test_the_citation_and_the_changelog_name_the_version_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## \[?([\w.]+)", changelog, flags=re.MULTILINE)
    assert sections[:2] == ["Unreleased", PROJECT["version"]]
