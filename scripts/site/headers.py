"""A hook of mkdocs: a page for each public header of C++, made of its declarations and their comments.

What is private, and names that are only announced, stay out; of functions with a body the head is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import tree_sitter_cpp
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from tree_sitter import Language, Node, Parser

HEADERS = "cpp/include/keystep"
FIRST = ("runtime", "observation", "episode", "status", "bundle", "async", "fixed_rate", "latency", "engine")
"""What a robot's program needs, in the order it is read in; the others follow by name."""
TYPES = {"class_specifier": "class", "struct_specifier": "struct", "enum_specifier": "enum"}
PARSER = Parser(Language(tree_sitter_cpp.language()))


@dataclass
class Declaration:
    """`title`: of a type or a function; none of what is shown together with its neighbours."""

    title: str
    words: str
    code: str
    members: list[Declaration] = field(default_factory=list)


def on_config(config: MkDocsConfig) -> None:
    pages = [{f"{path.stem}.hpp": uri(path)} for path in headers(config)]
    reference = next(section["Reference"] for section in config.nav if "Reference" in section)
    reference.append({"C++": [{"All headers": "api/cpp/index.md"}, *pages]})


def on_files(files: Files, config: MkDocsConfig) -> None:
    lines = ["# C++ API\n", "`#include <keystep/keystep.hpp>` has most of it.\n", "| header | |", "|---|---|"]
    for path in headers(config):
        source = path.read_bytes()
        files.append(File.generated(config, uri(path), content=page(path.name, source)))
        lines.append(f"| [{path.name}]({path.stem}.md) | {first_words(source.decode())} |")
    files.append(File.generated(config, "api/cpp/index.md", content="\n".join(lines) + "\n"))


def headers(config: MkDocsConfig) -> list[Path]:
    paths = (Path(config.config_file_path).parent / HEADERS).glob("*.hpp")
    found = {path.stem: path for path in sorted(paths) if path.stem != "keystep"}
    return [found.pop(name) for name in FIRST] + list(found.values())


def uri(path: Path) -> str:
    return f"api/cpp/{path.stem}.md"


def page(name: str, source: bytes) -> str:
    lines = [f"# {name}", "", first_words(source.decode()), "", f"`#include <keystep/{name}>`", ""]
    for scope in namespaces(PARSER.parse(source).root_node):
        for declaration in declarations(scope):
            lines += shown(declaration, 2)
    return "\n".join(lines) + "\n"


def first_words(source: str) -> str:
    """The comment that a header begins with."""
    lines = re.match(r"(?://.*\n)*", source)[0].splitlines()
    return prose([line.removeprefix("//") for line in lines])


def shown(declaration: Declaration, level: int) -> Iterator[str]:
    if declaration.title:
        yield f"{'#' * level} {declaration.title}\n"
    if declaration.words:
        yield declaration.words + "\n"
    if declaration.code:
        yield f"```cpp\n{declaration.code}\n```\n"
    for member in declaration.members:
        yield from shown(member, level + 1)


def namespaces(node: Node) -> Iterator[Node]:
    """The bodies of namespaces that callers use."""
    for child in node.children:
        if child.type == "namespace_definition" and text(child.child_by_field_name("name")) != "detail":
            yield child.child_by_field_name("body")


def declarations(scope: Node, access: str = "public") -> list[Declaration]:
    """Neighbours without words of their own are one."""
    found: list[Declaration] = []
    words: list[str] = []
    last_line = -1
    for node in scope.named_children:
        if node.type == "access_specifier":
            access = text(node)
        elif access != "public":
            continue
        elif node.type == "comment":
            remark = text(node)
            if node.start_point.row == last_line or remark.startswith("///<"):
                continue  # is shown beside its line
            words = [*words, remark] if remark.startswith("///") else []
            continue
        elif (made := declaration(node, words)) is not None:
            last_line = node.end_point.row
            joins = found and not (made.title or made.words or found[-1].title or found[-1].members)
            if joins:
                found[-1].code += "\n" + made.code
            else:
                found.append(made)
        words = []
    return found


def declaration(node: Node, comments: list[str]) -> Declaration | None:
    words = prose([comment.removeprefix("///") for comment in comments])
    inner = node.named_children[-1] if node.type == "template_declaration" else node
    kind = TYPES.get(inner.type)
    if kind is None:
        title = function_name(inner) if words else ""
        return Declaration(title, words, code(node)) if shows(inner) else None
    body, name = inner.child_by_field_name("body"), text(inner.child_by_field_name("name"))
    if body is None:  # announced
        return None
    if kind == "enum":
        return Declaration(f"enum {name}", words, code(node) + ";")
    members = declarations(body, "private" if kind == "class" else "public")
    members = [member for member in members if member.code or member.members]
    head = node.text[: body.start_byte - node.start_byte].decode().rstrip()
    return Declaration(f"{kind} {name}", words, "" if head == f"{kind} {name}" else f"{head} {{", members)


def shows(node: Node) -> bool:
    """Not what a caller can do nothing with: friends, deleted copies, announced types."""
    hidden = node.type in {"friend_declaration", "namespace_definition"} or "= delete" in text(node)
    return not hidden and not re.fullmatch(r"(?:class|struct) \w+;", text(node))


def function_name(node: Node) -> str:
    """Empty: it is none."""
    open_nodes = [node]
    while open_nodes:
        here = open_nodes.pop(0)
        if here.type == "function_declarator":
            return text(here.child_by_field_name("declarator"))
        if here.type not in {"compound_statement", "parameter_list"}:
            open_nodes += here.named_children
    return ""


def code(node: Node) -> str:
    """As it is written, with the remark behind it; without the body of a function."""
    end = head_end(node.named_children[-1] if node.type == "template_declaration" else node)
    written = node.text[: end - node.start_byte].decode().rstrip()
    written += remark_behind(node) if end == node.end_byte else ";"
    return written.replace("\n" + " " * node.start_point.column, "\n")


def head_end(node: Node) -> int:
    if node.type == "function_definition":
        for child in node.children:
            if child.type in {"field_initializer_list", "compound_statement"}:
                return child.start_byte
    return node.end_byte


def remark_behind(node: Node) -> str:
    """Of one line or several, beside each other."""
    remark, found = node.next_sibling, ""
    while remark is not None and remark.type == "comment" and text(remark).startswith("///<"):
        found += "  ///<" * (not found) + text(remark).removeprefix("///<").rstrip()
        remark = remark.next_sibling
    return found


def prose(lines: list[str]) -> str:
    """Indented lines are formulas. Outside of code a `<` would be a tag, and a `*` emphasis."""
    formula, found = False, ""
    for line in lines:
        if formula != (formula := line.startswith("   ")):
            found += "\n\n"
        found += f"    {line.strip()}\n" if formula else line.strip() + " "
    parts = re.split(r"(`[^`]*`|(?m:^    .*$))", found)
    parts[::2] = [part.replace("<", "&lt;").replace("*", r"\*") for part in parts[::2]]
    return "".join(parts).strip("\n ")


def text(node: Node | None) -> str:
    return "" if node is None or node.text is None else node.text.decode()
