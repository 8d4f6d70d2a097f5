"""Builds an image of this folder without Docker, for the test cluster: `build_for_kit.py ROLE TAG --kit FOLDER`.

The Dockerfile stays the one description. The kit's `image` program makes layers from a Debian base, copied files and
shell commands; this program turns the instructions that our Dockerfiles use (FROM, RUN, COPY, ENV, WORKDIR, USER,
ENTRYPOINT, LABEL) into its words and refuses any other: a cluster test runs what `docker build` would have made.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
BASE = "kit.local/debian:12"
Instruction = tuple[str, str]


def instructions(text: str) -> list[Instruction]:
    """(WORD, rest) of each instruction; comments and continued lines are resolved."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0].upper(), line.split(maxsplit=1)[1].strip()) for line in lines]


def stages(found: list[Instruction]) -> dict[str, list[Instruction]]:
    """Instructions by stage name; the last stage is named ''."""
    parts: dict[str, list[Instruction]] = {}
    name = ""
    for word, rest in found:
        if word == "FROM":
            name = rest.split()[-1] if " AS " in rest else ""
            parts[name] = []
        else:
            parts[name].append((word, rest))
    return parts


def chunks(stage: list[Instruction]) -> list[list[Instruction]]:
    """Instructions that share a layer: files copied from another stage, commands, and our own files lie apart."""
    parts: list[list[Instruction]] = []
    kind = ""
    for word, rest in stage:
        new = "from" if rest.startswith("--from=") else word if word in {"RUN", "COPY"} else kind
        if new != kind or not parts:
            parts.append([])
        parts[-1].append((word, rest))
        kind = new
    return parts


class Kit:
    """The kit's `image` program and its store of layers."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self._program = folder / "image"
        self._store = Path(os.environ.get("CLUSTER_HOME") or Path.home() / ".titrate-cluster") / "images"
        self._scratch = scratch

    def run(self, *words: str) -> None:
        """Call `image`."""
        subprocess.run([str(self._program), *words], check=True, stdout=sys.stderr)

    def has(self, name: str) -> bool:
        """Whether the image was made here."""
        return self._record(name).exists()

    def build(self, name: str, stage: list[Instruction], made: dict[str, str]) -> None:
        """One stage, chunk by chunk; a chunk whose instructions and files did not change is not made again."""
        parent, key = BASE, BASE
        for chunk in chunks(stage):
            key = hashlib.sha256(
                "\n".join([key, *(self._fingerprint(*part, made) for part in chunk)]).encode()
            ).hexdigest()
            image = f"titrate.local/build:{key[:16]}"
            if not self.has(image):
                words = [word for part in chunk for word in self._words(*part, made)]
                self.run("make", image, "--from", parent, *words)
            parent = image
        self.run("make", name, "--from", parent)

    def _fingerprint(self, word: str, rest: str, made: dict[str, str]) -> str:
        """What the layer of one instruction depends on."""
        if word != "COPY":
            return f"{word} {rest}"
        if rest.startswith("--from="):
            return f"{rest} {self._record(made[rest.removeprefix('--from=').split()[0]]).read_text()}"
        source = ROOT / rest.split()[0]
        files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
        kept = [p for p in files if "__pycache__" not in p.parts]
        return rest + "".join(f"{p.relative_to(ROOT)} {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in kept)

    def _words(self, word: str, rest: str, made: dict[str, str]) -> list[str]:
        if word == "RUN":
            return ["--run", rest]
        if word == "COPY" and rest.startswith("--from="):
            stage, source, target = rest.removeprefix("--from=").split()
            return ["--copy", f"{self._extract(made[stage], source)}:{target}"]
        if word == "COPY":
            source, target = rest.split()
            return ["--copy", f"{self._clean(ROOT / source)}:{target}"]
        if word == "ENV":
            return [part for pair in rest.split() for part in ("--env", pair)]
        if word in {"WORKDIR", "USER"}:
            return [f"--{word.lower()}", rest]
        if word == "ENTRYPOINT":
            return ["--entrypoint", " ".join(json.loads(rest))]
        if word == "LABEL":
            return []
        raise SystemExit(f"error: the instruction {word} is not translated: {rest!r}")

    def _record(self, name: str) -> Path:
        return self._store / (name.replace("/", "_").replace(":", "@") + ".json")

    def _extract(self, image: str, path: str) -> Path:
        """The folder `path` of the last layer of `image`."""
        layer = json.loads(self._record(image).read_text())["layers"][-1]
        target = self._scratch / "extracted"
        with tarfile.open(self._store / f"{layer}.tar") as archive:
            members = [member for member in archive if f"/{member.name}".startswith(path.rstrip("/") + "/")]
            archive.extractall(target, members, filter="fully_trusted")
        return target / path.strip("/")

    def _clean(self, source: Path) -> Path:
        """A copy of `source` without byte code."""
        target = self._scratch / "copied" / source.relative_to(ROOT)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
        return target


def main() -> None:
    """Build one role."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "role", choices=sorted(p.name.removesuffix(".Dockerfile") for p in (ROOT / "images").glob("*.Dockerfile"))
    )
    parser.add_argument("tag")
    parser.add_argument("--kit", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        kit = Kit(options.kit, Path(scratch))
        if not kit.has(BASE):
            kit.run("base", BASE)
        made: dict[str, str] = {}
        for stage, parts in stages(instructions((ROOT / "images" / f"{options.role}.Dockerfile").read_text())).items():
            made[stage] = f"titrate.local/{options.role}-{stage}:1" if stage else options.tag
            kit.build(made[stage], parts, made)


if __name__ == "__main__":
    main()
