"""Lets `mkdocs build` make a site of pages whose links are those of the repository.

The README is the site's first page, and files beside `docs/` that pages name are put on the site, below `project/`. So
every link is written once, as it works in the repository, and `--strict` finds those that lead nowhere.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = ("*.md", "LICENSE", ".ci/skips.py", "cluster/**/*", "recipes/*", "samples/CREDITS.md", "tests/doubles/*.md")
# Blocks of commands; on the site each has a button that copies it, and the prompts would be copied, too.
COMMANDS = re.compile(r"^```console\n((?:\$ .*\n)+)```$", re.M)
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put on the site what lies beside `docs/`."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            if path.is_file() and "__pycache__" not in name:
                files.append(File.generated(config, place(name), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - MkDocs
    """Turn links from places in the repository to places on the site; those that lead nowhere stay, to be found."""
    here = page.file.src_uri
    # Room for what is wide: the first page is in no chapter, and a page of one table has no contents to list.
    page.meta["hide"] = ["navigation"] * (here == "index.md") + ["toc"] * ("\n## " not in markdown)
    origin = Path(page.file.abs_src_path or "").relative_to(ROOT).parent.as_posix()

    def turned(found: re.Match[str]) -> str:
        target = found[2]
        if "://" in target:
            return found[0]
        name = posixpath.normpath(posixpath.join(origin, target))
        if (ROOT / name).is_dir():
            name += "/README.md"
        leads = place(name)
        if files.get_file_from_path(leads) is None:
            return found[0]
        return found[1] + posixpath.relpath(leads, posixpath.dirname(here)) + found[3]

    return COMMANDS.sub(without_prompts, LINK.sub(turned, markdown))


def without_prompts(block: re.Match[str]) -> str:
    """Return a block of commands as what is typed."""
    return f"```bash\n{re.sub(r'^[$] ', '', block[1], flags=re.M)}```"


def place(name: str) -> str:
    """Return where a file of the repository, by its path from the root, is on the site."""
    if name == "README.md":
        return "index.md"
    inside = name.removeprefix("docs/")
    # Names that begin with a point would be left out.
    return inside if inside != name else f"project/{name.removeprefix('.')}"
