"""Parses CEL text to a tree of nodes. This is the only module that uses the CEL library.

The grammar is that of cel-python (`celpy`). Its evaluator is not used, because an expression is evaluated on a hundred
thousand providers at once. Parts of CEL outside the subset of docs/expressions.md raise an error with their position.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import WHERE_MAX

if TYPE_CHECKING:
    from lark import Lark, Token, Tree

DEPTH_MAX: Final = 32
"""The limit of nested parentheses, negations, lists and arithmetic operations."""

DOCS: Final = "docs/expressions.md describes the language"

_BINARY: Final = {
    "relation_lt": "<",
    "relation_le": "<=",
    "relation_gt": ">",
    "relation_ge": ">=",
    "relation_eq": "==",
    "relation_ne": "!=",
    "relation_in": "in",
    "addition_add": "+",
    "addition_sub": "-",
    "multiplication_mul": "*",
    "multiplication_div": "/",
    "multiplication_mod": "%",
}
_NOT_HERE: Final = {
    "member_dot_arg": "functions of values, macros and regular expressions are not supported",
    "member_object": "objects are not supported",
    "dot_ident_arg": "a name must not start with a dot",
    "dot_ident": "a name must not start with a dot",
    "map_lit": "maps are not supported",
    "FLOAT_LIT": "numbers with a fraction are not supported",
    "UINT_LIT": "unsigned numbers are not supported",
    "BYTES_LIT": "bytes are not supported",
    "NULL_LIT": "null is not supported",
    "MLSTRING_LIT": "texts over several lines are not supported",
}
_INSTEAD: Final = {
    "FLOAT_LIT": 'write a version as version("8.2"), an amount in a smaller unit',
    "UINT_LIT": "write the number without u",
    "NULL_LIT": "ask has(attributes.x), or !has(attributes.x)",
}


class CelNode(NamedTuple):
    """A part of an expression. `kind`: an operator (`&&`, `||`, `!`, `<`, `in`, `+`, …; `-` of one part negates), or
    `name`, `field`, `call`, `list`, `if`, `text`, `number`, `fraction`, `bool`. `start` and `end` are characters."""

    kind: str
    value: Any
    parts: tuple[CelNode, ...]
    start: int
    end: int


class CelSource(NamedTuple):
    """The text of an expression, and where it was written (an option or a field)."""

    text: str
    where: str

    def refuse(self, what: str, at: CelNode | int, *, do: str = DOCS) -> UsageError:
        """An error that names the position in the text."""
        start = at if isinstance(at, int) else at.start
        near = self.text[start : start + 40 if isinstance(at, int) else max(at.end, start + 1)]
        shown = near if len(near) <= 40 else f"{near[:37]}..."
        return UsageError(what, where=f"{self.where}, character {start + 1}: {shown}", do=do)


def parse(text: str, where: str, *, fractions: bool = False) -> tuple[CelSource, CelNode]:
    """Parse an expression. Raises `UsageError` if it does not compile, is outside the subset, is too long or is nested too
    deeply. `fractions` allows numbers with a fraction."""
    source = CelSource(text, where)
    if len(text) > WHERE_MAX:
        raise UsageError(
            f"an expression of {len(text)} characters is too long",
            where=where,
            do=f"use {WHERE_MAX} at most; put what belongs together into a trait or an aggregate",
        )
    if not text.strip():
        raise UsageError("the expression is empty", where=where, do=DOCS)
    return source, _Reader(source, fractions).read(_syntax(source), 0)


def _syntax(source: CelSource) -> Tree[Token]:
    from lark.exceptions import UnexpectedInput, UnexpectedToken

    try:
        return _parser().parse(source.text)
    except UnexpectedToken as error:
        if error.token.type == "$END":
            raise source.refuse("the expression ends too early", len(source.text)) from None
        raise source.refuse("the expression does not compile", error.pos_in_stream or 0) from None
    except UnexpectedInput as error:
        raise source.refuse("the expression does not compile", error.pos_in_stream or 0) from None


@cache
def _parser() -> Lark:
    """A parser of our own. The library shares one parser object in the whole process, which stays unchanged."""
    from celpy.celparser import CELParser
    from lark import Token

    class Parser(CELParser):
        @staticmethod
        def ambiguous_literals(t: Token) -> Token:
            # The library's method loses the position of the literal.
            return Token.new_borrow_pos("BOOL_LIT", t.value, t) if t.value in ("true", "false") else t

    theirs, CELParser.CEL_PARSER = CELParser.CEL_PARSER, None
    try:
        Parser()
        ours: Lark = vars(CELParser)["CEL_PARSER"]
    finally:
        CELParser.CEL_PARSER = theirs
    return ours


class _Reader:
    """Converts the library's tree to nodes."""

    def __init__(self, source: CelSource, fractions: bool) -> None:
        self._source = source
        self._fractions = fractions

    def read(self, tree: Tree[Token], depth: int, start: int = 0) -> CelNode:
        """Convert a tree. `start` is used if the tree has no position. Rules with a single child and no content of their
        own are skipped."""
        while (
            len(tree.children) == 1
            and _is_tree(tree.children[0])
            and tree.data not in ("list_lit", *_NOT_HERE)
        ):
            tree = tree.children[0]  # type: ignore[assignment]
        start = getattr(tree.meta, "start_pos", None) or start
        if depth > DEPTH_MAX:
            raise self._source.refuse(
                f"the expression is nested more than {DEPTH_MAX} deep", start, do="split it, or write it flat"
            )
        return self._read(tree, start, getattr(tree.meta, "end_pos", None) or start, depth + 1)

    def _read(self, tree: Tree[Token], start: int, end: int, depth: int) -> CelNode:
        rule, children = str(tree.data), tree.children
        if rule in ("conditionalor", "conditionaland"):
            parts = [self.read(part, depth, start) for part in _chain(tree, rule)]
            return CelNode("||" if rule == "conditionalor" else "&&", None, tuple(parts), start, end)
        if rule == "expr":
            return self._node("if", None, children, start, end, depth)
        if rule in ("relation", "addition", "multiplication"):
            left: Any = children[0]
            kind = _BINARY[str(left.data)]
            return self._node(kind, None, [left.children[0], children[1]], start, end, depth)
        if rule == "unary":
            kind = "!" if children[0].data == "unary_not" else "-"  # type: ignore[union-attr]
            return self._node(kind, None, children[1:], start, end, depth)
        if rule == "member_dot":
            return self._node("field", str(children[1]), children[:1], start, end, depth)
        if rule == "member_index":
            return self._index(children, start, end, depth)
        if rule == "ident_arg":
            arguments: Any = children[1].children if len(children) > 1 else []  # type: ignore[union-attr]
            return self._node("call", str(children[0]), arguments, start, end, depth)
        if rule == "ident":
            return CelNode("name", str(children[0]), (), start, end)
        if rule == "list_lit":
            items: Any = children[0].children if children else []  # type: ignore[union-attr]
            return self._node("list", None, items, start, end, depth)
        if rule == "literal":
            return self._literal(children[0], start, end)
        raise self._refuse(rule, start)

    def _refuse(self, rule: str, start: int) -> UsageError:
        what = _NOT_HERE.get(rule, "this is not part of the language")
        return self._source.refuse(what, start, do=_INSTEAD.get(rule, DOCS))

    def _node(self, kind: str, value: Any, children: Any, start: int, end: int, depth: int) -> CelNode:
        return CelNode(kind, value, tuple(self.read(child, depth, start) for child in children), start, end)

    def _index(self, children: Any, start: int, end: int, depth: int) -> CelNode:
        """`attributes["x"]` means `attributes.x`. It allows names that are not identifiers."""
        key = self.read(children[1], depth)
        if key.kind != "text":
            raise self._source.refuse("the key in [] is not a text", key)
        return self._node("field", key.value, children[:1], start, end, depth)

    def _literal(self, token: Any, start: int, end: int) -> CelNode:
        text = str(token)
        if token.type == "INT_LIT":
            return CelNode("number", int(text, 16 if "x" in text else 10), (), start, end)
        if token.type == "BOOL_LIT":
            return CelNode("bool", text == "true", (), start, end)
        if token.type == "STRING_LIT":
            return CelNode("text", self._text(text, start), (), start, end)
        if token.type == "FLOAT_LIT" and self._fractions:
            return CelNode("fraction", float(text), (), start, end)
        raise self._refuse(token.type, start)

    def _text(self, literal: str, start: int) -> str:
        if literal[0] in "rR":
            return literal[2:-1]

        def unescape(found: re.Match[str]) -> str:
            digits = found[1] or found[2] or found[3]
            code = int(digits, 16) if digits else int(found[4], 8) if found[4] else None
            letter = _SIMPLE.get(found[5] or "") if code is None else None
            if letter is None and (code is None or code > sys.maxunicode or 0xD800 <= code < 0xE000):
                raise self._source.refuse(f"{found[0]} is not an escape sequence", start)
            return letter or chr(code or 0)

        return _ESCAPE.sub(unescape, literal[1:-1])


_SIMPLE: Final = {
    **dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True)),
    **{letter: letter for letter in "\"'`?\\"},
}
_ESCAPE: Final = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.?))"
)


def _is_tree(child: object) -> bool:
    return hasattr(child, "children")


def _chain(tree: Any, rule: str) -> list[Any]:
    """All parts of a chain such as `a && b && c`, which the grammar nests to the left."""
    parts: list[Any] = []
    while True:
        if tree.data == rule and len(tree.children) == 2:
            parts.append(tree.children[1])
            tree = tree.children[0]
        elif tree.data == rule and len(tree.children) == 1:
            tree = tree.children[0]
        else:
            parts.append(tree)
            return parts[::-1]
