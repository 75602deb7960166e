"""Write `requirements.lock` with the hashes of every wheel, and `sbom.cdx.json`: `python -m scripts.lock` (needs uv).

The pinned versions are those that stand in the lock: edit a version there, or add a line `name==version`, and run this. It ends
with an error where the versions do not serve every Python of the project on Linux and macOS, and names what is missing.
torch is pinned in `requirements-torch.lock` without a hash, because its builds (CPU, CUDA) differ by machine.

The lock is no `uv.lock`, because that format names the host of the registry in every line, and this project names none. It is
resolved in the same way (`uv pip compile --universal`), and holds the hashes of every platform's files.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import tomllib
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
LOCK, SBOM = PROJECT / "requirements.lock", PROJECT / "sbom.cdx.json"
TORCH = PROJECT / "requirements-torch.lock"
EXTRAS = ("train", "eval", "dev", "ray")
"""Extras that the lock has in addition to the core. `vllm` needs an environment of its own."""
NOT_LOCKED = re.compile(r"cuda-|nvidia-|triton$")
"""Packages of torch's CUDA build alone."""
HEADER = "# Every package with its version and the hashes of its files. Written by `python -m scripts.lock`; torch is apart.\n"
PINNED = re.compile(r"^([A-Za-z0-9_.-]+)==([A-Za-z0-9_.!+]+)", re.M)
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def pins(text: str) -> dict[str, str]:
    """{package: version} of a lock."""
    return dict(PINNED.findall(text))


def hashed(versions: dict[str, str]) -> str:
    """The lock of these versions, with the hashes that the package index names."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "requirements.in"
        wanted.write_text("".join(f"{name}=={version}\n" for name, version in sorted(versions.items())))
        command = [
            "uv",
            "pip",
            "compile",
            "--generate-hashes",
            "--no-deps",
            "--no-header",
            "--no-annotate",
            "--quiet",
            str(wanted),
        ]
        return HEADER + subprocess.run(command, check=True, capture_output=True, text=True).stdout


def missing_pins(versions: dict[str, str]) -> list[str]:
    """Packages that some Python of the project needs, on Linux or macOS, and that have no version here.

    Raises:
        SystemExit: the versions contradict each other or a requirement of the project; with uv's explanation.
    """
    oldest = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["requires-python"].split(",")[0][2:]
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder) / "pins.txt"
        pinned.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()))
        command = [
            "uv",
            "pip",
            "compile",
            "--universal",
            "--quiet",
            "--no-header",
            "--no-annotate",
            "--python-version",
            oldest,
        ]
        command += [option for extra in EXTRAS for option in ("--extra", extra)]
        done = subprocess.run(
            [*command, "-c", str(pinned), "pyproject.toml"], cwd=PROJECT, capture_output=True, text=True
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    found = re.findall(r"(?m)^([A-Za-z0-9_.-]+)==[^ \n]+(?: ; (.+))?$", done.stdout)
    elsewhere = ("win32", "emscripten")
    return [
        name
        for name, marker in found
        if name not in versions and not NOT_LOCKED.match(name) and not any(f"== '{one}'" in marker for one in elsewhere)
    ]


def bill_of_materials(lock: str) -> dict[str, Any]:
    """CycloneDX 1.6: name, version, package URL and hashes of each package."""
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", lock)
    components = []
    for block in blocks:
        if found := PINNED.match(block):
            name, version = found.groups()
            hashes = [{"alg": "SHA-256", "content": value} for value in HASH.findall(block)]
            package = {"type": "library", "name": name, "version": version, "purl": f"pkg:pypi/{name}@{version}"}
            components.append({**package, "hashes": hashes})
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components}


def main() -> None:
    versions, torch = pins(LOCK.read_text()), TORCH.read_text()
    if missing := missing_pins(versions | pins(torch)):
        raise SystemExit(f"no version in {LOCK.name}: {', '.join(missing)}")
    lock = hashed(versions)
    LOCK.write_text(lock)
    bill = bill_of_materials(lock + torch)
    components = ",\n".join(json.dumps(component) for component in bill.pop("components"))
    SBOM.write_text(f'{json.dumps(bill)[:-1]}, "components": [\n{components}\n]}}\n')  # a line for each package


if __name__ == "__main__":
    main()
