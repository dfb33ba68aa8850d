#!/usr/bin/env python3
"""Checks the documents: every relative link and picture exists, every link to a heading meets one, the English and the
Chinese README hold the same code, and pictures stay small.

Prints one line a finding, "file:line: expectation, finding", and exits with 1 if there is any. That the C++ blocks
compile and run is checked by the build (cmake/docs.cmake).
"""
import re
import sys
from pathlib import Path
from urllib.parse import unquote

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
LARGEST_PICTURE = 300_000  # bytes
SKIPPED = {"build", "out", "data", ".git"}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def anchors(text: str) -> set[str]:
    """The names under which a page's headings can be linked to."""
    names = set()
    for heading in re.findall(r"^#+ +(.+)$", text, re.M):
        words = re.sub(r"[^\w\- ]", "", heading.lower())
        names.add(words.strip().replace(" ", "-"))
    return names


def findings(root: Path):
    pages = [p for p in sorted(root.rglob("*.md")) if not SKIPPED & set(p.relative_to(root).parts[:1])]
    for page in pages:
        here = page.relative_to(root)
        fenced = False
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            if line.startswith("```"):
                fenced = not fenced
            if fenced:
                continue
            for target in LINK.findall(line):
                if re.match(r"[a-z]+:", target):
                    continue
                name, _, anchor = unquote(target).partition("#")
                linked = (page.parent / name).resolve() if name else page
                if not linked.exists():
                    yield f"{here}:{number}: a link leads to a file of this repository, got {target}"
                elif root not in linked.parents and linked != root:
                    yield f"{here}:{number}: a link stays inside this repository, got {target}"
                elif anchor and linked.suffix == ".md" and anchor not in anchors(linked.read_text(encoding="utf-8")):
                    yield f"{here}:{number}: a link leads to a heading, got {target}"
    for picture in sorted((root / "docs").rglob("*.png")):
        if picture.stat().st_size > LARGEST_PICTURE:
            yield f"{picture.relative_to(root)}:1: a picture has at most {LARGEST_PICTURE} bytes, got {picture.stat().st_size}"
    readmes = [(root / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md")]
    for language in ("cpp", "sh"):
        one, other = (blocks(text, language) for text in readmes)
        if one != other:
            yield f"README.zh.md:1: the same {language} blocks as README.md, found others"


def main() -> int:
    root = (Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    found = list(findings(root))
    print("\n".join(found) if found else "check_docs: every link leads somewhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
