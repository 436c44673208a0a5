# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation as a site, for Sphinx: `make docs`.

The source is a copy of the checkout with the reference in it, as antsibull-docs makes it. The guides stay what they are on GitHub: plain
Markdown. What a site needs beyond that is added here: the navigation, which is in the order of docs/README.md; diagrams, drawn ahead so that
pages need no scripts for them; links from names of plugins to the reference; and where long names may break on a phone.
"""

from __future__ import annotations

import hashlib
import re
import typing as t
from pathlib import Path

import mermaidx
import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective

CHECKOUT = Path(__file__).resolve().parent.parent.parent
GALAXY = yaml.safe_load((CHECKOUT / "galaxy.yml").read_text())
COLLECTION = f"{GALAXY['namespace']}.{GALAXY['name']}"
REFERENCE = f"collections/{GALAXY['namespace']}/{GALAXY['name']}"

project = COLLECTION
author = copyright = ", ".join(GALAXY["authors"])
version = release = GALAXY["version"]

extensions = ["myst_parser", "sphinx_antsibull_ext"]
# .ci/docs calls README.md index.md, since that is the name of a site's front page.
root_doc = "index"
include_patterns = ["index.md", "docs/*.md", f"{REFERENCE}/*.rst", "collections/environment_variables.rst"]
nitpicky = True
highlight_language = "YAML+Jinja"
pygments_style = "ansible"

# Headings have the anchors that they have on GitHub.
myst_heading_anchors = 6
myst_fence_as_directive = ["mermaid"]

html_theme = "furo"
html_title = f"{COLLECTION} {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = html_use_index = False
# Its own colours follow the system, not the button that switches the theme: see site.css.
antsibull_ext_color_scheme = "none"

# Pygments does not know policies of Vault, and colours what it can.
suppress_warnings = ["misc.highlighting_failure"]

#: What the reference says of Ansible itself is in Ansible's own documentation.
ANSIBLE = {
    "action_plugins": "plugins/action.html",
    "ansible_configuration_settings": "reference_appendices/config.html",
    "callback_plugins": "plugins/callback.html",
    "common_return_values": "reference_appendices/common_return_values.html",
}
#: Keeps a flowchart narrow, so that its text is not shrunk to fit the page, and writes that text in the lines that were measured: else what
#: is longer in the reader's font is cut off.
FLOWCHART = '%%{init: {"htmlLabels": false, "flowchart": {"htmlLabels": false, "nodeSpacing": 30, "rankSpacing": 30, "wrappingWidth": 120}}}%%\n'

#: Where a long name may go on in the next line: after an underscore, slash, comma or dot, and before a brace. File names stay whole.
JOINT = re.compile(r"(?i)(?<=\w)_(?=\w)|(?<=[a-z;])[/,](?=[a-z]{2}|&)|(?<=\w)\.(?=[a-z]{5})|(?=\{\w)")


class Diagram(SphinxDirective):
    """A diagram in Mermaid's language. What it says is the text for those who cannot see it."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        text = "\n".join(self.content)
        picture = f"diagrams/{hashlib.sha256(text.encode()).hexdigest()[:16]}.svg"
        path = Path(self.env.srcdir, picture)
        path.parent.mkdir(exist_ok=True)
        path.write_text(mermaidx.render(FLOWCHART + text).svg())
        return [nodes.container("", nodes.image(uri=f"/{picture}", alt=text), classes=["diagram"])]


class LinksToTheReference(SphinxTransform):
    """Make the names of modules, and commands such as `ansible-doc -t lookup ephemeral.openai.openai_creds`, links to their pages."""

    default_priority = 500

    def apply(self, **_kwargs: t.Any) -> None:
        if self.env.docname.startswith("collections/"):
            return
        for literal in list(self.document.findall(nodes.literal)):
            named = re.fullmatch(rf"(ansible-doc (?:-t (\w+) )?)?(?:{re.escape(COLLECTION)}\.)?(\w+)", literal.astext())
            if not named or isinstance(literal.parent, nodes.reference | nodes.title):
                continue
            command, kind, name = named.groups()
            pages = {page.stem for page in Path(self.env.srcdir, REFERENCE).glob(f"{name}_*.rst")}
            page = f"{name}_{kind or 'module'}"
            # A name alone may be that of a module and a lookup.
            if page in pages and (command or pages.isdisjoint({f"{name}_lookup", f"{name}_role"})):
                address = self.env.app.builder.get_relative_uri(self.env.docname, f"{REFERENCE}/{page}")
                literal.replace_self(nodes.reference("", "", literal.deepcopy(), refuri=address, internal=True))


def navigation() -> t.Iterator[str]:
    """Give each table of guides in docs/README.md as a chapter, then the reference."""
    guides = (CHECKOUT / "docs" / "README.md").read_text()
    for caption, rows in re.findall(r"^\| ([\w ]+) \| answers \|\n\|---\|---\|\n((?:\|.*\n)+)", guides, re.MULTILINE):
        yield from toctree(caption, re.findall(r"^\| \[([^]]+)\]\(([\w-]+)\.md\)", rows, re.MULTILINE), "docs/")
    pages = [
        ("Modules, plugins and roles", f"{REFERENCE}/index"),
        ("Environment variables", "collections/environment_variables"),
    ]
    yield from toctree("reference", [("Overview", "docs/README"), *pages])


def toctree(caption: str, pages: list[tuple[str, str]], folder: str = "") -> t.Iterator[str]:
    yield f"```{{toctree}}\n:caption: {caption.capitalize()}\n:hidden:\n"
    yield from (f"{title} <{folder}{page}>" for title, page in pages)
    yield "```\n"


def adapt(_app: Sphinx, page: str, source: list[str]) -> None:
    """Change what is right on GitHub, or for a site of many collections, but not here."""
    if page.startswith("collections/"):
        # The theme has the contents of a page beside it.
        source[0] = re.sub(r"\n\.\. contents::\n( +:.*\n)+", "\n", source[0])
    if page == "index":
        source[0] = source[0].replace("](LICENSE", f"]({GALAXY['repository']}/blob/main/LICENSE")
        source[0] += "\n\n" + "\n".join(navigation())
    elif page == f"{REFERENCE}/index":
        source[0] = re.sub(
            r"\n\S+\n===+\n", "\nModules, plugins and roles\n==========================\n", source[0], count=1
        )
        source[0] = source[0].partition(".. seealso::")[0]
    elif page.startswith("docs/"):
        source[0] = source[0].replace("](../README.md", "](../index.md")
        source[0] = source[0].replace("](../plugins/", f"]({GALAXY['repository']}/tree/main/plugins/")


def link_to_ansible(_app: Sphinx, _env: t.Any, wanted: addnodes.pending_xref, text: nodes.Element) -> nodes.Node | None:
    page = ANSIBLE.get(wanted["reftarget"])
    return page and nodes.reference(
        "", "", text, refuri=f"https://docs.ansible.com/ansible/latest/{page}", internal=False
    )


def let_names_break(_app: Sphinx, _page: str, _template: str, context: dict[str, t.Any], _source: t.Any) -> None:
    """Mark where names may break in narrow places. Who copies a name gets it without the marks."""

    def mark(part: re.Match[str]) -> str:
        return re.sub(r">[^<]+", lambda text: JOINT.sub(r"\g<0><wbr>", text[0]), part[0])

    narrow = (
        r'(?s)<h1>.*?</h1>|<table class="docutils align-default">.*?</table>|<p class="ansible-option-title".*?</p>'
    )
    context["body"] = re.sub(narrow, mark, context.get("body", ""))
    for page in filter(None, (context.get("prev"), context.get("next"))):
        page["title"] = JOINT.sub(r"\g<0><wbr>", page["title"])


def setup(app: Sphinx) -> None:
    app.add_directive("mermaid", Diagram)
    app.add_transform(LinksToTheReference)
    app.connect("source-read", adapt)
    app.connect("missing-reference", link_to_ansible)
    app.connect("html-page-context", let_names_break)
