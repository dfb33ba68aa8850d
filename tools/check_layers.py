#!/usr/bin/env python3
"""Checks that includes go down the layers, never up and never sideways, and that no public header includes a SIMD header.

The layers, and what each may see beside itself, stand in `BELOW`; docs/architecture.md draws them. Prints one line a
finding, "file:line: expectation, finding", and exits with 1 if there is any.
"""
import re
import sys
from pathlib import Path

BELOW = {
    "base": set(),
    "io": {"base"},
    "kernels": {"base"},
    "attention": {"kernels", "base"},
    "autograd": {"attention", "kernels", "base"},
    "nn": {"autograd", "attention", "kernels", "io", "base"},
    "optim": {"autograd", "attention", "kernels", "base"},
    "models": {"nn", "autograd", "attention", "kernels", "io", "base"},
    "train": {"models", "nn", "optim", "autograd", "attention", "kernels", "io", "base"},
    "cli": {"train", "models", "nn", "optim", "autograd", "attention", "kernels", "io", "base"},
}
PRIVATE = {"kernels"}  # no public header may include these
SIMD = re.compile(r"hwy/|[a-z]*mmintrin\.h|immintrin\.h|arm_neon\.h|arm_sve\.h")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def layer_of(path: Path) -> str | None:
    """The layer of a source file: the folder under include/attune/ or src/."""
    parts = path.parts
    if parts[:2] == ("include", "attune") and len(parts) > 3:
        return parts[2]
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    return None


def target_of(name: str) -> str | None:
    """The layer that an include names, or None for the world outside and for files beside the including one."""
    parts = name.split("/")
    if parts[0] == "attune":
        return parts[1] if len(parts) > 2 else "umbrella"
    return parts[0] if parts[0] in BELOW and len(parts) > 1 else None


def findings(root: Path):
    for path in sorted([*(root / "include").rglob("*.hpp"), *(root / "src").rglob("*.[ch]pp")]):
        here = path.relative_to(root)
        layer = layer_of(here)
        public = here.parts[0] == "include"
        if layer is not None and layer not in BELOW:
            yield f"{here}:1: a layer is one of {', '.join(BELOW)}, got {layer}"
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            quote, name = match.groups()
            where = f"{here}:{number}"
            if public and SIMD.search(name):
                yield f"{where}: a public header includes no SIMD header, got {name}"
            target = target_of(name)
            if target is None:
                if quote == '"' and not SIMD.search(name) and not (path.parent / name).exists():
                    yield f"{where}: an include in quotes names a file of attune by its path from the root, got {name}"
                continue
            if target == "umbrella":
                if layer is not None and layer != "cli":
                    yield f"{where}: the umbrella is for users and programs, not for layer {layer}"
                continue
            if target not in BELOW:
                yield f"{where}: a layer is one of {', '.join(BELOW)}, got {target}"
            elif layer is not None and target != layer and target not in BELOW[layer]:
                yield f"{where}: layer {layer} sees only {', '.join(sorted(BELOW[layer])) or 'itself'}, got {target}"
            elif public and target in PRIVATE:
                yield f"{where}: a public header includes no private layer, got {name}"


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    found = list(findings(root))
    print("\n".join(found) if found else "check_layers: every include goes down")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
