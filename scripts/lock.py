"""Write `requirements.lock` with the hashes of every wheel, and `sbom.cdx.json`: `python -m scripts.lock` (needs uv).

The pinned versions are those that stand in the lock: edit a version there, or add a line `name==version`, and run this.
torch is pinned in `requirements-torch.lock` without a hash, because its builds (CPU, CUDA) differ by machine.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
LOCK, SBOM = PROJECT / "requirements.lock", PROJECT / "sbom.cdx.json"
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
    lock = hashed(pins(LOCK.read_text()))
    LOCK.write_text(lock)
    torch = (PROJECT / "requirements-torch.lock").read_text()
    bill = bill_of_materials(lock + torch)
    components = ",\n".join(json.dumps(component) for component in bill.pop("components"))
    SBOM.write_text(f'{json.dumps(bill)[:-1]}, "components": [\n{components}\n]}}\n')  # a line for each package


if __name__ == "__main__":
    main()
