"""The roles ``{claim}`` and ``{value}``: a chapter's figures in its prose, each claim with its evidence one click away.

    {claim}`name`   {claim}`in other words <name>`   {claim}`{plus_minus} <name>`   {claim}`notebooks/07-decay::name`

A claim shows its words and a small number. A press on it opens the evidence, an element with the browser's own
``popover`` attribute: no script, and the keyboard and screen readers know it. All evidence of a page stands at its end,
so that paper has it as notes. The build warns, and so stops where warnings do, of a claim that the runs do not show, of
a name that does not exist and of a claim that no page uses.
"""

from __future__ import annotations

import json
import os
import re
from html import escape
from typing import Any
from urllib.parse import quote

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

from labbook.page.book import PAGE
from labbook.page.claims import number as number_text
from labbook.page.claims import p_text
from labbook.page.evidence import FURTHER, with_further_seeds

LOGGER = logging.getLogger(__name__)
EVIDENCE = "book/evidence/"
# Ends a sentence: what follows begins another.
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z{\[])")
TARGET = re.compile(r"^(?P<text>.*?)\s*<(?P<target>[^<>]+)>$", re.S)


class Use(nodes.Inline, nodes.TextElement):
    """Where the prose uses a claim or a value, until the page is written."""

    def astext(self) -> str:
        return f"[{self['name']}]"


class Role(SphinxRole):
    """``{claim}`` or ``{value}``, by the name under which it is known."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        found = TARGET.match(self.text)
        text, target = (found["text"], found["target"]) if found else ("", self.text)
        page, _, name = target.strip().rpartition("::")
        page = page.removesuffix(".ipynb").removesuffix(".md").lstrip("/") or self.env.docname
        node = Use("", kind=self.name, page=page, name=name.strip(), form=text)
        self.set_source_info(node)
        return [node], []


# --- reading: what a page keeps and uses ----------------------------------------------------------------------------


def name_page(_app: Any, docname: str, _source: list[str]) -> None:
    """Tell the kernel that this process starts next which page it runs."""
    os.environ[PAGE] = docname


def keep(app: Any, doctree: nodes.document) -> None:
    """Note a page's claims and values, which its notebook gave, and where its prose uses any."""
    env = app.env
    env.labbook_kept[env.docname] = _given(env, env.docname)
    env.labbook_uses[env.docname] = [
        {"kind": node["kind"], "page": node["page"], "name": node["name"], "line": node.line,
         "sentence": _sentence(node)} for node in doctree.findall(Use)]


def _given(env: Any, docname: str) -> dict[str, dict[str, Any]]:
    """The records of a notebook's claims and values, from what myst-nb keeps of its outputs."""
    metadata = getattr(env, "nb_metadata", {}).get(docname, {})
    keys = [key for key in metadata.get("glue", ()) if key.startswith(("claim ", "value "))]
    if not keys:
        return {}
    folder = env.mystnb_config.output_folder
    with open(os.path.join(folder, f"{docname}.glue.json"), encoding="utf-8") as file:
        outputs = json.load(file)
    return {key: json.loads(outputs[key]["data"]["text/plain"]) for key in keys}


def _sentence(node: Use) -> str:
    """The sentence around a use; other uses in it stand as their names in brackets."""
    block = node
    while isinstance(block.parent, nodes.Inline | nodes.TextElement):
        block = block.parent
    before = after = ""
    passed = False
    for leaf in block.findall(lambda one: isinstance(one, nodes.Text | Use)):
        if leaf is node:
            passed = True
        elif passed:
            after += leaf.astext()
        else:
            before += leaf.astext()
    start = [0, *(found.end() for found in SENTENCE_END.finditer(before))][-1]
    end = SENTENCE_END.search(after)
    whole = before[start:] + node.astext() + (after[: end.start()] if end else after)
    return " ".join(whole.split())


def start(app: Any, *_: Any) -> None:
    for store in ("labbook_kept", "labbook_uses"):
        if not hasattr(app.env, store):
            setattr(app.env, store, {})


def purge(_app: Any, env: Any, docname: str) -> None:
    for store in ("labbook_kept", "labbook_uses"):
        getattr(env, store, {}).pop(docname, None)


def merge(_app: Any, env: Any, docnames: list[str], other: Any) -> None:
    """Take over what another process has read."""
    for store in ("labbook_kept", "labbook_uses"):
        getattr(env, store).update({doc: found for doc, found in getattr(other, store).items() if doc in docnames})


# --- checking -------------------------------------------------------------------------------------------------------


def check(_app: Any, env: Any) -> None:
    """Warn of every claim that is not shown, of unknown names, and of claims that no page uses."""
    used: dict[tuple[str, str], list[tuple[str, dict]]] = {}
    for docname, uses in sorted(env.labbook_uses.items()):
        for use in uses:
            key = f"{use['kind']} {use['name']}"
            if key in env.labbook_kept.get(use["page"], {}):
                used.setdefault((use["page"], key), []).append((docname, use))
                continue
            there = [other.partition(" ")[2] for other in env.labbook_kept.get(use["page"], {})
                     if other.startswith(use["kind"])]
            LOGGER.warning("%s %r is not known on page %s. Known there: %s. Sentence: “%s”", use["kind"], use["name"],
                           use["page"], ", ".join(there) or "none", use["sentence"], type="labbook", subtype="unknown",
                           location=(docname, use["line"]))
    for docname, kept in sorted(env.labbook_kept.items()):
        for key, record in kept.items():
            kind, _, name = key.partition(" ")
            places = used.get((docname, key), [])
            if kind == "claim" and not places:
                LOGGER.warning("claim %r is used in no sentence", name, type="labbook", subtype="unused",
                               location=docname)
            if kind == "claim" and record["status"] != "shown" and not record["changed"]:
                sentences = "; ".join(
                    f"“{_worded(use['sentence'], env, where)}”" + (f" (page {where})" if where != docname else "")
                    for where, use in places)
                LOGGER.warning(
                    "%s: claim %r of page %s, study %s: %s. %s. Sentence: %s",
                    "Too few seeds" if record["status"] == "too few seeds" else "Not shown by the runs", name, docname,
                    record["study"], record["says"], _in_a_line(record), sentences or "none", type="labbook",
                    subtype="claim", location=docname)


def _worded(sentence: str, env: Any, docname: str) -> str:
    """A sentence with the words and figures of its page in place of their names in brackets."""
    kept = env.labbook_kept.get(docname, {})

    def words(found: re.Match) -> str:
        for kind, shown in (("claim", "words"), ("value", "text")):
            if record := kept.get(f"{kind} {found[1]}"):
                return record[shown]
        return found[0]

    return re.sub(r"\[([^\[\]]+)\]", words, sentence)


def _in_a_line(record: dict[str, Any]) -> str:
    """The evidence of a claim as a message has it."""
    parts = [record["fields"]["signed"],
             f"95 % interval {record['fields']['interval']}" if record["fields"]["interval"] else "no interval",
             *(f"{level['name']} n = {level['n']}" for level in record["levels"])]
    if record["p"] is not None:
        parts.append(f"p {p_text(record['p'])}, corrected for {record['family']}")
    return ", ".join(parts)


# --- writing --------------------------------------------------------------------------------------------------------


def write(app: Any, doctree: nodes.document, docname: str) -> None:
    """Put words and figures in place of the roles, and the evidence of a page's claims at its end."""
    html, numbers = app.builder.format == "html", {}
    for node in list(doctree.findall(Use)):
        record = app.env.labbook_kept.get(node["page"], {}).get(f"{node['kind']} {node['name']}")
        if record is None:   # the check has warned
            node.replace_self(nodes.problematic("", f"{node['name']}?"))
        elif node["kind"] == "value":
            node.replace_self(nodes.inline("", record["text"], classes=["value"]))
        else:
            number, _ = numbers.setdefault((node["page"], node["name"]), (len(numbers) + 1, record))
            node.replace_self(_claim(node, record, docname, number, html))
    if html and numbers:
        notes = "".join(_note(app, docname, page, number, record) for (page, _), (number, record) in numbers.items())
        doctree.append(nodes.raw("", f'<section class="claim-notes" aria-label="Evidence">'
                                     f'<h2 class="claim-notes-title">Evidence</h2>{notes}</section>', format="html"))


def _claim(node: Use, record: dict[str, Any], docname: str, number: int, html: bool) -> nodes.inline:
    """The words of a claim and its mark."""
    words = record["words"]
    if node["form"]:
        try:
            words = node["form"].format(words, **record["fields"])
        except (KeyError, IndexError, ValueError):
            LOGGER.warning("claim %r: %r has a field that there is not. Known: %s", node["name"], node["form"],
                           ", ".join(f"{{{name}}}" for name in record["fields"]), type="labbook", subtype="field",
                           location=(docname, node.line))
    children: list[nodes.Node] = [nodes.Text(words)]
    if record["status"] != "shown":
        said = " (too few seeds)" if record["status"] == "too few seeds" else " (not shown by these runs)"
        children.append(nodes.inline("", said, classes=["claim-not-shown"]))
    if html:
        label = escape(f"Evidence {number}: {record['says']}", quote=True)
        mark = (f'<button type="button" class="claim-mark" popovertarget="{_id(docname, number)}" aria-label="{label}" '
                f'title="Evidence">{number}</button>')
        children.append(nodes.raw("", mark, format="html"))
    return nodes.inline("", "", *children, classes=["claim"])


def _id(docname: str, number: int) -> str:
    return f"claim-{re.sub(r'[^A-Za-z0-9]+', '-', docname)}-{number}"


def _note(app: Any, docname: str, page: str, number: int, record: dict[str, Any]) -> str:
    """The evidence of one claim, in HTML: every text from a study or a result is escaped."""
    rows = []
    if record["difference"]:
        first, second = (level["name"] for level in record["levels"])
        rows.append(("Difference", f"{first} minus {second}: {record['fields']['signed']}"))
    if record["fields"]["interval"]:
        rows.append(("95 % interval", record["fields"]["interval"]))
    rows += [(level["name"], f"{level['text']} (n = {level['n']})") for level in record["levels"]]
    if record["p"] is not None:
        family = record["family"]
        rows.append(("p", p_text(record["p"]).removeprefix("= ") + (
            f", corrected for all {family} comparisons and claims of the study" if family > 1 else
            ", the study's only comparison")))
    if record["effect"] is not None:
        rows.append(("Effect size", f"{number_text(record['effect'], 1)} standard deviations of a run (Hedges’ g)"))
    rows.append(("Test", record["test"]))
    if record["lost"]:
        rows.append(("Left out", f"{record['lost']} run{'s' * (record['lost'] != 1)} that diverged"))
    if record["changed"]:
        rows.append(("Other parameters", ", ".join(f"{name} = {value}" for name, value in record["changed"].items())))
    body = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows)
    links = []
    if (evidence := EVIDENCE + record["study"]) in app.env.found_docs:
        url, text = app.builder.get_relative_uri(docname, evidence), f"All comparisons of {record['study']}"
        further = record["more"] and with_further_seeds(record["study"])
        links.append((f"{url}#{FURTHER}", f"{text}, with these further seeds") if further else (url, text))
    if page != docname:
        title = app.env.titles[page].astext() if page in app.env.titles else page
        links.append((app.builder.get_relative_uri(docname, page), title))
    linked = "".join(f'<a href="{escape(quote(url, safe="/#.:?=&%-_~"), quote=True)}">{escape(text)}</a> '
                     for url, text in links)
    count, runs = len(record["runs"]), "".join(f"<li>{escape(run)}.json</li>" for run in record["runs"])
    files = (f'<details><summary>{count} run file{"s" * (count != 1)} in results/runs/</summary><ul>{runs}</ul>'
             "</details>" if count else "")
    states = {"shown": "", "not shown": "Not shown by these runs. ", "too few seeds": "Too few seeds. "}
    ident = _id(docname, number)
    says = escape(states[record["status"]] + record["says"][:1].upper() + record["says"][1:])
    return (
        f'<div popover class="claim-note" id="{ident}" role="dialog" aria-labelledby="{ident}-says">'
        f'<p class="claim-says" id="{ident}-says"><span class="claim-number">{number}</span> {says}.</p>'
        f'{_pooled(record)}<dl>{body}</dl>'
        f'<p class="claim-rule">{escape(record["rule"])}</p>{files}<p class="claim-links">{linked}</p>'
        f'<button type="button" class="claim-close" popovertarget="{ident}" popovertargetaction="hide">Close</button>'
        "</div>")


def _pooled(record: dict[str, Any]) -> str:
    """That a claim counts seeds of another study, said before its figures; empty where it counts none."""
    if not record["more"]:
        return ""
    counts: dict[int, list[str]] = {}
    for level, count in record["more"].items():
        counts.setdefault(count, []).append(f"“{level}”")
    said = ", ".join(f"{count} more seed{'s' * (count != 1)}{' each' * (len(levels) > 1)} of {' and '.join(levels)}"
                     for count, levels in counts.items())
    return (f'<p class="claim-pooled">{escape(f"Counts {said}: the same settings in study ")}'
            f"{escape(' and '.join(record['pooled']))}. The study alone has fewer.</p>")


def setup(app: Any) -> dict[str, Any]:
    app.add_node(Use)
    for kind in ("claim", "value"):
        app.add_role(kind, Role())
    app.connect("env-before-read-docs", start)
    app.connect("source-read", name_page)
    app.connect("doctree-read", keep)
    app.connect("env-purge-doc", purge)
    app.connect("env-merge-info", merge)
    app.connect("env-check-consistency", check)
    app.connect("doctree-resolved", write)
    return {"version": "1", "env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}
